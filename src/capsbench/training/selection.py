"""What a run chooses by a metric: when to stop, and which epoch's weights to end with."""

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from capsbench.training.checkpoint import read_checkpoint


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
