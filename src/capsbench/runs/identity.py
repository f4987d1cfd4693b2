"""What makes two runs the same run, and the folder that follows from it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_EFFECT_ON_NUMBERS = (
    "output_dir",
    "checkpoint_minutes",
    "retry_failed",
    "data_dir",
    "data.data_dir",
    "logger",
    "gpus_per_run",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.sync_batchnorm",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
"""Settings that may change without making it another run."""


@dataclass(frozen=True)
class Identity:
    """A run, by what decides its numbers.

    Args:
        experiment, data, arch, router: the names chosen for each axis.
        seed: an integer from 0 to 2³² - 1.
        settings: the resolved configuration, without `NO_EFFECT_ON_NUMBERS`.
        choices: the name chosen for each part of the settings (loss, optim, …), for people; it decides nothing.
    """

    experiment: str
    data: str
    arch: str
    router: str
    seed: int
    settings: Mapping[str, Any]
    choices: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any], choices: Mapping[str, str | None]) -> "Identity":
        """The identity of a run with this resolved configuration, its axes being named by `choices`.

        Raises:
            ValueError: the seed is not an integer from 0 to 2³² - 1.
        """
        seed = config["seed"]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 4294967295, got {seed!r}")
        return cls(
            experiment=str(choices["experiment"]),
            data=str(choices["data"]),
            arch=str(choices["arch"]),
            router=str(choices["router"]),
            seed=seed,
            settings=without(config, NO_EFFECT_ON_NUMBERS),
            choices={group: str(choices[group]) for group in config if choices.get(group)},
        )

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]

    def folder(self, root: str | Path) -> Path:
        """Where the run lives: root/experiment/data/arch/router/seed-digest."""
        return Path(root, self.experiment, self.data, self.arch, self.router, f"seed{self.seed}-{self.digest}")


def without(config: Mapping[str, Any], dotted_keys: Iterable[str]) -> dict[str, Any]:
    """A copy of a nested mapping that lacks these keys, each given as a path with dots."""
    copy = deepcopy(dict(config))
    for dotted in dotted_keys:
        *path, last = dotted.split(".")
        node: Any = copy
        for key in path:
            node = node.get(key, {})
        node.pop(last, None)
    return copy
