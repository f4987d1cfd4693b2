"""Every epoch's metrics, kept through interruptions."""

from typing import Any

import lightning


class History(lightning.Callback):
    """Gathers what each epoch measured; it is saved in checkpoints, so a resumed run has all of it.

    Attributes:
        epochs: for each epoch its number, from 1, the optimizer steps done by its end, and what was measured in it.
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
        """Of every metric the value measured last."""
        metrics = {name: value for row in self.epochs for name, value in row.items()}
        return {name: value for name, value in metrics.items() if name not in ("epoch", "step")}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for logger in trainer.loggers:  # which begin anew with each session
            for row in self.epochs:
                metrics = {name: value for name, value in row.items() if name not in ("epoch", "step")}
                logger.log_metrics({**metrics, "epoch": row["epoch"] - 1}, int(row["step"]) - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
