"""What a run chooses by a metric: when to stop, and which epoch's weights to end with."""

from collections.abc import Collection, Iterable
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from capsbench.training.checkpoint import read_checkpoint
from capsbench.training.metrics import MEASURES


def check_monitors(callbacks: Iterable[lightning.Callback], measured: Collection[str]) -> None:
    """Check before the training that callbacks watch what is measured of these labels.

    Args:
        callbacks: of a run.
        measured: names of metrics.

    Raises:
        ValueError: one watches another measure.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        split, _, name = monitor.partition("/")
        if name in MEASURES and monitor not in measured:
            known = [f"{split}/{each}" for each in MEASURES if f"{split}/{each}" in measured]
            raise ValueError(
                f"{type(callback).__name__} watches {monitor}, which is not measured of these labels; set its "
                f"monitor to {' or '.join(known)}"
            )


def choose(trainer: lightning.Trainer, module: lightning.LightningModule) -> str:
    """Give a trained network the weights that a `ModelCheckpoint` found best; say what was chosen.

    Args:
        trainer: has trained.
        module: what it has trained.

    Returns:
        "early stopping by val/loss after 7 epochs; weights of epoch 4, the best by val/accuracy"; "" if nothing was.

    Raises:
        CheckpointError: the file of these weights is damaged.
    """
    told = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            told.append(f"early stopping by {callback.monitor} after {trainer.current_epoch} epochs")
        elif isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.best_model_path:
            best = read_checkpoint(Path(callback.best_model_path))
            module.load_state_dict(best["state_dict"])
            told.append(f"weights of epoch {best['epoch'] + 1}, the best by {callback.monitor}")
    return "; ".join(told)
