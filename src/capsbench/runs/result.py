"""The result of a finished run: one JSON file, written last and atomically."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from capsbench.data.files import written_atomically
from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity, completed

SCHEMA = 3
AUGMENTATION = ("crop_padding", "flip")
"""Settings of data that an object of its own has held since schema 2."""
ATTRIBUTES = {"machine_load": "load"}
"""Those with another name in the file, where `load` is no method."""


@dataclass(frozen=True)
class Result:
    """What a run was and what came out of it. A report trusts nothing else.

    Attributes:
        experiment, data, arch, router, seed, settings, choices: see `Identity`.
        identity: the digest of the run's identity.
        identity_version: of what settings mean, see `capsbench.runs.identity.VERSION`.
        metrics: `test/accuracy`, `test/loss` and, for the parts and companions that the data names,
            `test/accuracy_NAME`, of the final weights; with `data.val_fraction` they are of the validation split,
            `val/…`, and there are none of the test split. `train/accuracy` and `train/loss`, of the last epoch;
            `train/images_per_second`, `inference/ms_per_batch` and `inference/batch_size`. With a decoder also
            `…/reconstruction`. Accuracies are shares of 1; losses and errors are means over examples.
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
        full: neither a smoke run nor trained on a part of the training set.
        schema: version of this record.
    """

    experiment: str
    data: str
    arch: str
    router: str
    seed: int
    identity: str
    settings: Mapping[str, Any]
    choices: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float | int]] = ()
    parameters: int = 0
    epochs: int = 0
    steps: int = 0
    wall_time_s: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = "unknown"
    date: str = ""
    git_commit: str | None = None
    sessions: Sequence[Mapping[str, Any]] = ()
    smoke: bool = False
    data_title: str = ""
    stands_in_for: str | None = None
    train_examples: int = 0
    test_examples: int = 0
    full: bool = True
    confusion: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    machine_load: Mapping[str, float | None] = field(default_factory=dict)
    identity_version: int = 1
    schema: int = SCHEMA

    @property
    def watched_split(self) -> str:
        """The split that a run is judged by: "val" where part of the training set was held out, else "test"."""
        return watched_split(self.metrics)

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
        """Read the result in a run's folder; one of an older schema is brought up to date.

        Raises:
            FileNotFoundError: the run is not finished.
            ValueError: the file is not a result, or it was written by a newer version.
        """
        path = RunFolder(folder).result
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record.get("schema", 1) < SCHEMA:
                record = _upgraded(record)
            return cls(**_renamed(record, {name: attribute for attribute, name in ATTRIBUTES.items()}))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a result of this version ({error}); delete it to run again") from error


def watched_split(metrics: Mapping[str, float]) -> str:
    """The split that these metrics of a run judge it by."""
    return "val" if "val/accuracy" in metrics else "test"


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
