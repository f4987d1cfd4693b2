"""What a run's settings may be: said in one line before anything is trained."""

from pathlib import Path

import torch
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

CONF = next(path for path in (Path(__file__).parents[1] / "conf", Path(__file__).parents[3] / "conf") if path.is_dir())
"""In the wheel the configuration is inside the package, in a checkout at its root."""

OmegaConf.register_new_resolver("one_of", lambda value, *options: value in options, replace=True)

NUMBERS_OR_NULL = ("data.subset", "arch.vote_gain")
"""Settings that are null by default, and otherwise numbers."""


def check_settings(config: DictConfig, loader: ConfigLoader) -> None:
    """Make sure that what was set for a run can be meant: it is compared with what it replaces.

    Args:
        config: of the run, which Hydra holds too.
        loader: of the configuration.

    Raises:
        ValueError: a switch that is neither true nor false, text where there was a number, a number out of its range.
    """
    hydra_config = HydraConfig.get()
    chosen = [word for word in hydra_config.overrides.task if word.partition("=")[0] in hydra_config.runtime.choices]
    defaults = loader.load_configuration("train", overrides=chosen, run_mode=RunMode.RUN)
    for word in hydra_config.overrides.task:
        key = word.partition("=")[0]
        default = OmegaConf.select(defaults, key)
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in NUMBERS_OR_NULL and not is_number:
            raise ValueError(f"{key} must be a number or null, got {value}")
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        if numeric and key != "seed" and not is_number:
            raise ValueError(f"{key} must be a number such as {default}, got {value}")
        if isinstance(default, int) and isinstance(value, float) and key != "seed":
            raise ValueError(f"{key} must be a whole number such as {default}, got {value}")
        if isinstance(default, ListConfig) and not isinstance(value, ListConfig):
            raise ValueError(f"{key} must be a list such as {default}, got {value}")
    _check_lengths(config)
    num_devices(config)


def _check_lengths(config: DictConfig) -> None:
    """Make sure that a run trains at all, and that its checkpoints are so far apart as a time can be.

    Raises:
        ValueError: trainer.max_epochs or trainer.max_steps is 0, or checkpoint_minutes no number of at least 0.
    """
    if config.checkpoint_minutes is None or config.checkpoint_minutes < 0:
        raise ValueError(f"checkpoint_minutes must be at least 0, got {config.checkpoint_minutes}")
    for key, allowed in (("max_epochs", (-1, None)), ("max_steps", (-1,))):
        limit = config.trainer.get(key, -1)
        if limit not in allowed and (limit is None or limit < 1):
            raise ValueError(f"trainer.{key} must be at least 1, or -1 for no limit, got {limit}")


def num_devices(config: DictConfig) -> int:
    """How many devices, and so processes, a run is to use.

    Raises:
        ValueError: trainer.devices is neither a positive number nor auto.
    """
    devices = config.trainer.devices
    if devices in ("auto", -1):
        return max(1, torch.cuda.device_count()) if config.trainer.accelerator != "cpu" else 1
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f"trainer.devices must be a number of at least 1, or auto, got {devices}")
    if devices > 1 and config.trainer.get("strategy") is None:
        raise ValueError(f"trainer.devices={devices} needs trainer=ddp, which divides a run over several devices")
    return devices
