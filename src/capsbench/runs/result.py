"""The result of a finished run: one JSON file, written last and atomically, and checked before it is believed."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from capsbench.data.files import written_atomically
from capsbench.data.reading import STRICT, Name, Seed, Text, Version, checked, in_words, read_json
from capsbench.runs.checks import check_record, check_result
from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity, changes, completed
from capsbench.runs.measures import main_metric

SCHEMA = 3
Count = Annotated[int, Field(ge=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
AUGMENTATION = ("crop_padding", "flip")
"""Settings of data that an object of its own has held since schema 2."""
ATTRIBUTES = {"machine_load": "load"}
"""Those with another name in the file, where `load` is no method."""


class ResultError(ValueError):
    """A result cannot be believed; the message names its file."""


@dataclass(frozen=True)
class Result:
    """What a run was and what came out of it. A report trusts nothing else.

    Attributes:
        experiment, data, arch, router, seed, settings, choices: see `Identity`.
        identity: the digest of the run's identity.
        identity_version: of what settings mean, see `capsbench.runs.identity.VERSION`.
        metrics: `test/accuracy` (of images with any number of labels `test/exact_match`, `test/f1` and `test/map`),
            `test/loss` and, for the parts and companions that the data names,
            `test/accuracy_NAME`, of the final weights; with `data.val_fraction` they are of the validation split,
            `val/…`, and there are none of the test split. `train/accuracy` and `train/loss`, of the last epoch;
            `train/images_per_second`, `inference/ms_per_batch` and `inference/batch_size`. With a decoder also
            `…/reconstruction`. Accuracies are shares of 1; losses and errors are means over examples.
        by_label: for that split where images have any number of labels, a row for each class, see
            `capsbench.training.Evaluated`; else empty.
        most_frequent_labels: the share of the split's images that show the most frequent set of classes; None where
            images have one label, or as many each.
        class_weights: of the loss in training, by class; empty where all classes count alike.
        confusion: for the split that was measured at the end, how many examples of each class (row) were predicted to
            be of each (column); empty where images have several labels.
        class_names: in the order of the confusion's rows.
        machine_load: "load" in the file: the machine's load average over one minute "before" and "after" training, None
            where the system does not tell, and its number of "cores"; empty where an older version did not note it.
        history: for each epoch its number ("epoch", from 1) and the metrics measured in it.
        parameters: the number of trainable ones.
        epochs, steps: done.
        wall_time_s: seconds of training and of the evaluations during it.
        versions: of Python and of the packages that compute.
        device: what it ran on, in words.
        date: on which the run ended (UTC, such as 2026-11-26); empty where an older version did not note it.
        git_commit: of the code, with "+" where the tree was changed; None outside a repository. The last session's.
        sessions: one row per session of training that the result stems from, in order: its first and last step
            ("from_step", "to_step"), when it began ("date", UTC), "git_commit", "device" in words, the number of
            "devices" and of "threads", "platform", and the version of "torch". Empty where an older version noted none.
        smoke: cut short on purpose; no table of the paper shows it.
        data_title: the data set's name in tables, such as "affNIST (generated)".
        stands_in_for: the title of the set that this data takes the place of ("affNIST"), or None.
        train_examples, test_examples: the sizes of the splits.
        data_files: of one's own data: the number of "files" and their "bytes", and a "digest" of their names, sizes and
            contents; with `data.skip_unreadable` also how many were "unreadable", if any, and the "first_unreadable".
            Empty of other data, and where an older version did not note it.
        full: neither a smoke run nor trained on a part of the training set.
        schema: version of this record.
    """

    __pydantic_config__ = STRICT

    experiment: Name
    data: Name
    arch: Name
    router: Name
    seed: Seed
    identity: Name
    settings: Mapping[Name, Any]
    choices: Mapping[Name, Name]
    metrics: Mapping[Name, float | int]
    history: Sequence[Mapping[Name, float | int]] = ()
    parameters: Count = 0
    epochs: Count = 0
    steps: Count = 0
    wall_time_s: AtLeast0 = 0.0
    versions: Mapping[Name, Text] = field(default_factory=dict)
    device: Text = "unknown"
    date: Text = ""
    git_commit: Text | None = None
    sessions: Sequence[Mapping[Name, Any]] = ()
    smoke: bool = False
    data_title: Text = ""
    stands_in_for: Text | None = None
    train_examples: Count = 0
    test_examples: Count = 0
    full: bool = True
    confusion: Mapping[Name, Sequence[Sequence[Count]]] = field(default_factory=dict)
    class_names: Sequence[Text] = ()
    by_label: Mapping[Name, Sequence[Mapping[Name, Count | AtLeast0]]] = field(default_factory=dict)
    most_frequent_labels: Annotated[float, Field(ge=0, le=1)] | None = None
    class_weights: Sequence[AtLeast0] = ()
    machine_load: Mapping[Name, AtLeast0 | None] = field(default_factory=dict)
    data_files: Mapping[Name, Count | Text] = field(default_factory=dict)
    identity_version: Version = 1
    schema: int = SCHEMA

    @property
    def run(self) -> Identity:
        """What the run is."""
        return Identity(
            self.experiment,
            self.data,
            self.arch,
            self.router,
            seed=self.seed,
            settings=self.settings,
            choices=self.choices,
            version=self.identity_version,
        )

    @property
    def watched_split(self) -> str:
        """The split that a run is judged by: "val" where part of the training set was held out, else "test"."""
        return self.main_metric.partition("/")[0]

    @property
    def main_metric(self) -> str:
        """What the run is judged by: "test/accuracy", "val/exact_match", …"""
        return main_metric(self.metrics)

    @property
    def commits(self) -> set[str | None]:
        """Those of all sessions."""
        return {self.git_commit, *(session.get("git_commit") for session in self.sessions)}

    @property
    def changed_between_sessions(self) -> list[str]:
        """What was not the same in all sessions, of what may change numbers."""
        names = ("git_commit", "device", "devices", "platform", "torch")
        return [name for name in names if len({session.get(name) for session in self.sessions}) > 1]

    def save(self, folder: Path) -> None:
        """Write result.json atomically into a run's folder."""
        with written_atomically(RunFolder(folder).result) as path:
            path.write_text(json.dumps(_renamed(asdict(self), ATTRIBUTES), indent=2, allow_nan=False))

    @classmethod
    def load(cls, folder: Path) -> "Result":
        """Read and check the result in a run's folder; one of an older schema is brought up to date.

        What is read is data of somebody else: types and ranges are checked, and that the file is of the run that the
        folder belongs to.

        Raises:
            FileNotFoundError: the run is not finished.
            ResultError: the file is not the result of this folder's run, or it was written by a newer version.
        """
        path = RunFolder(folder).result
        try:
            record = read_json(path)
            schema = check_record(record, SCHEMA)
            upgraded = _upgraded(record) if schema < SCHEMA else record
            result = checked(cls, _renamed(upgraded, {name: own for own, name in ATTRIBUTES.items()}))
            check_result(result)
            result.run.check_folder(folder, has_digest=schema > 1)
        except FileNotFoundError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ResultError(f"{path} is no valid result: {in_words(error)}; delete it to run again") from error
        return result if "devices" in result.settings else replace(result, settings=_with_devices(result))


def _renamed(record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in record.items()}


def _upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of an older schema as one of today's, with the values of settings that came later.

    In schema 1 the settings of augmentation were not an object's, so the digest was another.
    """
    settings = deepcopy(dict(record["settings"]))
    data = settings.get("data", {})
    moved = {name: data.pop(name) for name in AUGMENTATION if name in data}
    if moved:
        data["augmentation"] = {"_target_": "capsbench.data.Augmentation", **moved}
    digest = record["identity"]
    if record.get("schema", 1) == 1:
        named = {name: record[name] for name in ("experiment", "data", "arch", "router", "seed", "choices")}
        digest = Identity(settings=settings, version=1, **named).digest
    return {**record, "settings": completed(settings), "identity": digest, "schema": SCHEMA}


def _with_devices(result: Result) -> Mapping[str, Any]:
    """The settings of a result that tells its devices in words alone, with these unless they are the default."""
    words, number = re.fullmatch(r"(.*?)(?: × (\d+))?", result.device, re.DOTALL).groups()  # type: ignore[union-attr]
    kind, comma, _ = words.partition(",")
    devices = {"kind": kind if comma or kind in ("cpu", "unknown") else "gpu", "number": int(number or 1)}
    is_told = kind != "unknown" and changes({"devices": devices})
    return {**result.settings, "devices": devices} if is_told else result.settings
