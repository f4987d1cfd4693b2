"""What makes two runs the same run, and the folder that follows from it."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from capsbench.data.files import written_atomically
from capsbench.data.reading import STRICT, Name, Seed, Version, checked, in_words, read_json
from capsbench.runs.folder import RunFolder

NO_EFFECT_ON_NUMBERS = (
    "name",
    "output_dir",
    "checkpoint_minutes",
    "retry_failed",
    "data_dir",
    "data.data_dir",
    "data.cache",
    "logger",
    "callbacks.lr_monitor",
    "gpus_per_run",
    "wait",
    # what these come to is in `devices`
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.sync_batchnorm",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
"""Settings that may change without making it another run."""

LIMITS = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "overfit_batches",
    "fast_dev_run",
    "max_time",
)
"""Settings of the trainer that leave batches out."""

VERSION = 2
"""Of what settings mean: raised where the same settings give other numbers, so that older runs are other runs.

2: a parameter's initial values follow from (seed, its name). 1: they followed from the order in which layers are made.
"""


@dataclass(frozen=True)
class Identity:
    """A run, by what decides its numbers.

    Args:
        experiment, data, arch, router: the name of each axis.
        seed: an integer from 0 to 2³² - 1.
        settings: the resolved configuration without `NO_EFFECT_ON_NUMBERS`.
        choices: the name chosen for each part of the settings (loss, optim, …). It is for readers and decides nothing.
        version: `VERSION` when the run was trained.
    """

    __pydantic_config__ = STRICT

    experiment: Name
    data: Name
    arch: Name
    router: Name
    seed: Seed
    settings: Mapping[Name, Any]
    choices: Mapping[Name, Name]
    version: Version = VERSION

    @classmethod
    def of(cls, config: Mapping[str, Any], choices: Mapping[str, str | None]) -> "Identity":
        """The identity of a run with this resolved configuration and these choices.

        The name of an axis follows from its settings: `router=dynamic router.iterations=1` is named dynamic1.

        Raises:
            ValueError: the seed is not an integer from 0 to 2³² - 1.
        """
        seed = config["seed"]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 4294967295, got {seed!r}")
        settings = without(config, NO_EFFECT_ON_NUMBERS)
        axes: dict[str, Any] = {
            axis: _nearest(axis, str(choices[axis]), settings) for axis in ("data", "arch", "router")
        }
        named = {group: str(choices[group]) for group in config if choices.get(group)}
        return cls(str(choices["experiment"]), **axes, seed=seed, settings=settings, choices=named | axes)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the version and with every setting that is not the default."""
        told = {"version": self.version, **changes(self.settings)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]

    def save(self, path: Path) -> None:
        """Write the fields as JSON to `RunFolder.identity`; `load` reads them."""
        with written_atomically(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Identity":
        """Read and check what `save` wrote into a run's folder.

        Raises:
            FileNotFoundError: the folder has no such file.
            ValueError: the file holds something else, or is of another run.
        """
        path = RunFolder(folder).identity
        try:
            found = checked(cls, read_json(path))
            found.check_folder(folder)
        except ValueError as error:
            raise ValueError(
                f"{path} is no identity of a run ({in_words(error)}); delete its folder to run it again"
            ) from error
        return found

    @property
    def is_smoke(self) -> bool:
        """Whether the trainer is told to leave batches out; 1.0 is all of them, 1 is one."""
        trainer = self.settings.get("trainer", {})
        return not all(_cuts_nothing(trainer.get(limit)) for limit in LIMITS)

    def folder(self, root: str | Path) -> Path:
        """The run's folder: root/experiment/data/arch/router/seed-digest."""
        return Path(root, self.experiment, self.data, self.arch, self.router, f"seed{self.seed}-{self.digest}")

    def check_folder(self, folder: Path, *, has_digest: bool = True) -> None:
        """Check that a folder is this run's, wherever its outputs are.

        Args:
            folder: to check.
            has_digest: whether its digest can be known; it cannot of results of the first schema.

        Raises:
            ValueError: it is the folder of another run.
        """
        *expected, name = self.folder("").parts
        *place, found = Path(os.path.abspath(folder)).parts
        same = found == name if has_digest else re.fullmatch(rf"seed{self.seed}-[0-9a-f]{{8}}", found)
        if not same or place[-len(expected) :] != expected:
            raise ValueError(f"it is of the run {self.folder('')}; was the folder copied or renamed?")


def _cuts_nothing(limit: Any) -> bool:
    return limit is None or limit is False or (isinstance(limit, float) and limit == 1.0)


def changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that differ from defaults.yaml; each object has its class's name as "class".

    >>> changes({"router": {"_target_": "capsbench.routing.DynamicRouting", "iterations": 1, "detach": False}})
    {'router': {'class': 'DynamicRouting', 'iterations': 1}}
    """
    told = _changes(settings, _defaults()["settings"])
    if "data" in told and told["data"].get("seed") == settings.get("seed"):
        told["data"].pop("seed", None)
    return told


def _changes(node: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "_target_" in node:
        found["class"] = str(node["_target_"]).rpartition(".")[2]
        known = _defaults()["classes"].get(found["class"], {})
    for key, value in node.items():
        default = known.get(key)
        if isinstance(value, Mapping):
            value = _changes(value, default if isinstance(default, Mapping) else {})
        value = _like(value, default)
        if key not in ("_target_", "_partial_") and value != default and value != {}:
            found[key] = value
    return found


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an older version with those that came later, at the values that keep the old behaviour.

    >>> completed({"router": {"_target_": "capsbench.routing.DynamicRouting", "iterations": 1}})["router"]["detach"]
    False
    """
    return _completed(settings, _defaults()["settings"])


def _completed(node: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    if "_target_" in node:
        known = _defaults()["classes"].get(str(node["_target_"]).rpartition(".")[2], {})
    whole = dict(node)
    for key, default in known.items():
        if key not in node and not (isinstance(default, Mapping) and "class" in default):
            whole[key] = deepcopy(default)
    for key, value in node.items():
        default = known.get(key)
        if isinstance(value, Mapping):
            whole[key] = _completed(value, default if isinstance(default, Mapping) else {})
        else:
            whole[key] = _like(value, default)
    return whole


def _like(value: Any, default: Any) -> Any:
    """A whole number as a float where its default is one: 1 and 1.0 are the same setting."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and isinstance(default, float) else value


def settings_of(axis: str, name: str) -> dict[str, Any]:
    """What a name of data, arch or router stands for, beside others of its class; nothing for a user's own.

    >>> settings_of("arch", "capsnet"), settings_of("arch", "capsnet_light")
    ({'filters': 256, 'groups': 32}, {'filters': 64, 'groups': 8})
    """
    known: Mapping[str, Mapping[str, Any]] = _defaults()["choices"][axis]
    choice = known.get(name, {"class": None})
    defaults = _defaults()["classes"].get(choice["class"], {})
    keys = {key for other in known.values() if other["class"] == choice["class"] for key in other} - {"class"}
    return {key: choice.get(key, defaults.get(key)) for key in sorted(keys)}


def _nearest(axis: str, chosen: str, settings: Mapping[str, Any]) -> str:
    """The name of the choice that the settings of an axis differ least from; a user's own choice keeps its name."""
    known: Mapping[str, Mapping[str, Any]] = _defaults()["choices"][axis]
    if chosen not in known:
        return chosen
    ours = changes({axis: settings[axis], "seed": settings["seed"]}).get(axis, {})
    alike = [name for name, choice in known.items() if choice["class"] == ours.get("class")]
    return min(alike, key=lambda name: _distance(ours, known[name]), default=chosen)


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


@functools.cache
def _defaults() -> dict[str, Any]:
    text = files("capsbench.runs").joinpath("defaults.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def without(config: Mapping[str, Any], dotted_keys: Iterable[str]) -> dict[str, Any]:
    """A copy of a nested mapping without these keys, each given as a path with dots."""
    copy = deepcopy(dict(config))
    for dotted in dotted_keys:
        *path, last = dotted.split(".")
        node: Any = copy
        for key in path:
            node = node.get(key) or {}
        node.pop(last, None)
    return copy
