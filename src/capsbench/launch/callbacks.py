"""Callbacks that a user chooses for a run, beside its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from capsbench.runs import RunFolder
from capsbench.runs.checks import holds_out
from capsbench.runs.measures import BESIDE, MAIN

if TYPE_CHECKING:
    import lightning

BETTER = {**dict.fromkeys((*MAIN, *BESIDE), "max"), "loss": "min", "reconstruction": "min"}
"""The mode of what runs measure."""
KEEPS_WEIGHTS = ".ModelCheckpoint"


def check_callbacks(config: DictConfig) -> None:
    """Check that callbacks have a class, and that none chooses by the test set or by a split that is not there.

    Raises:
        ValueError: one does.
    """
    for name, settings in (config.get("callbacks") or {}).items():
        part = f"callbacks.{name}"
        if not isinstance(settings, DictConfig) or "_target_" not in settings:
            raise ValueError(f"{part} must be a class with its settings, {part}._target_=…, got {settings}")
        monitor = settings.get("monitor")
        if monitor is None:
            if "monitor" in settings:
                raise ValueError(f"{part}.monitor must not be null; set a metric such as val/loss")
            continue
        split, _, metric = str(monitor).partition("/")
        allowed = ("val",) if str(settings["_target_"]).endswith(KEEPS_WEIGHTS) else ("val", "train")
        if split not in allowed:
            raise ValueError(
                f"{part}.monitor must be {' or '.join(f'{each}/…' for each in allowed)}, such as val/loss, got "
                f"{monitor}; nothing is chosen by the test set"
            )
        if split == "val" and not holds_out(config.data):
            raise ValueError(
                f"callbacks={name} watches {monitor}, and this run has no validation split: set data.val_fraction=0.1, "
                "or data.val_split=true for data that has one"
            )
        better = BETTER.get(metric)
        if better is not None and settings.get("mode", better) != better:
            raise ValueError(f"{part}.mode must be {better} for {monitor}, got {settings.mode}")


def make_callbacks(settings: Mapping[Any, Any], folder: RunFolder) -> "list[lightning.Callback]":
    """Make callbacks of their settings; weights that one keeps are in the run's folder."""
    best = folder.best
    kept = {"dirpath": str(best.parent), "filename": best.stem, "save_top_k": 1, "save_weights_only": True}
    kept["enable_version_counter"] = False
    return [
        instantiate(each, **(kept if str(each["_target_"]).endswith(KEEPS_WEIGHTS) else {}))
        for each in settings.values()
    ]
