"""The configuration of runs: how it is composed."""

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict

from capsbench.launch.checks import check, check_keys
from capsbench.launch.devices import devices_of

CONF = next(path for path in (Path(__file__).parents[1] / "conf", Path(__file__).parents[3] / "conf") if path.is_dir())
"""Of the configuration: in the wheel inside the package, in a checkout at its root."""

PARTS = ("data", "arch", "router", "decoder", "loss", "optim", "trainer")
"""What a choice is made of, beside the experiment."""
NO_EXPERIMENT = "adhoc"
"""The experiment that sets nothing."""


def epochs_alone(max_epochs: int | None, max_steps: int, interval: str) -> int | None:
    """The length of a schedule where it is known from the settings; None where it takes the data to know it."""
    return max_epochs if interval == "epoch" and max_steps == -1 and max_epochs != -1 else None


OmegaConf.register_new_resolver("one_of", lambda value, *options: value in options, replace=True)
OmegaConf.register_new_resolver("either", lambda condition, yes, no: yes if condition else no, replace=True)
OmegaConf.register_new_resolver("epochs_alone", epochs_alone, replace=True)


@dataclass(frozen=True)
class RunConfig:
    """The composed configuration of one run.

    Attributes:
        config: interpolations unresolved, without Hydra's own node.
        resolved: the same as plain containers.
        choices: the name chosen in each group.
        devices: what the trainer's settings come to, see `devices_of`.
    """

    config: DictConfig
    resolved: Mapping[str, Any]
    choices: Mapping[str, str | None]
    devices: Mapping[str, Any]


def own_choices(config_dir: str) -> Path:
    """A user's own directory of choices.

    Raises:
        ValueError: there is no such directory.
    """
    if not Path(config_dir).is_dir():
        raise ValueError(f"--config-dir must be a directory with folders of choices, there is no {config_dir}")
    return Path(config_dir).absolute()


@contextmanager
def open_configuration(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Give Hydra's loader of conf/, with a user's own directory of choices before it.

    Raises:
        ValueError: there is no such directory.
    """
    setbase("1.3")
    search_path = create_config_search_path(str(CONF))
    if config_dir is not None:
        search_path.prepend(provider="command-line", path=f"file://{own_choices(config_dir)}")
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("capsbench", search_path).config_loader
    finally:
        GlobalHydra.instance().hydra = before


class Composer:
    """Composes configurations of runs. Files are read once for each combination of choices.

    Args:
        loader: of the configuration.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.parser = OverridesParser.create(config_loader=loader)
        self._by_choices: dict[tuple[str, ...], DictConfig] = {}
        self._has_options = functools.cache(lambda group: bool(loader.get_group_options(group)))

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """Compose the configuration of a run and check it.

        Args:
            overrides: as on the command line, without sweeps: `["router=dynamic", "seed=2"]`.

        Raises:
            ValueError: a setting that has no effect, is of the wrong type or out of its range.
            HydraException, OmegaConfBaseException: no such choice or setting.
        """
        whole, defaults, values = self._compose(overrides)
        config, choices = _without_hydra(whole), dict(whole.hydra.runtime.choices)
        with _seen_by_hydra(whole):
            chosen = {group: choices.get(group) for group in ("experiment", "system")}
            sets = [f"{group}={name}" for group, name in chosen.items() if name not in (None, NO_EXPERIMENT)]
            own = tuple(f"{group}={choices[group]}" for group in PARTS)
            check_keys(config, defaults, self._read(own) if sets else defaults, " or ".join(sets))
            check(config, defaults, values)
            resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            devices = devices_of(config)
        return RunConfig(config, resolved, choices, devices)

    def compose_unchecked(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a configuration that need not be complete: some of its settings may be missing."""
        whole, _, _ = self._compose(overrides)
        return _without_hydra(whole)

    def _compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig, list[Override]]:
        """The configuration, the same without overrides of single settings, and these."""
        parsed = self.parser.parse_overrides(list(overrides))
        values = [override for override in parsed if not self._has_options(override.key_or_group)]
        choices = tuple(str(override.input_line) for override in parsed if override not in values)
        defaults = self._read(choices)
        config = copy.deepcopy(defaults)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config, defaults, values

    def _read(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._by_choices:
            self._by_choices[choices] = self.loader.load_configuration("train", list(choices), RunMode.RUN)
        return self._by_choices[choices]


def _without_hydra(config: DictConfig) -> DictConfig:
    config = copy.deepcopy(config)
    with open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def _seen_by_hydra(config: DictConfig) -> Iterator[None]:
    """For a while, let `${hydra:…}` resolve to what this configuration says."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
