"""Records the metrics of every epoch."""

from typing import Any

import lightning


class History(lightning.Callback):
    """Record the metrics of every epoch. Checkpoints save the record, so a resumed run keeps it.

    Attributes:
        epochs: one row per epoch: its number (from 1), the optimizer steps done by its end, and its metrics.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float | int]] = []
        self._evaluated = False

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._evaluated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if self._evaluated or name.startswith("train/")
        }
        self.epochs.append({"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **metrics})
        self._evaluated = False

    @property
    def latest(self) -> dict[str, float | int]:
        """The last measured value of every metric."""
        metrics = {name: value for row in self.epochs for name, value in row.items()}
        return {name: value for name, value in metrics.items() if name not in ("epoch", "step")}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for logger in trainer.loggers:  # a resumed run starts its logs from the beginning
            for row in self.epochs:
                metrics = {name: value for name, value in row.items() if name not in ("epoch", "step")}
                logger.log_metrics({**metrics, "epoch": row["epoch"] - 1}, int(row["step"]) - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
