"""How far a run is: progress.json in its folder, and a line for each epoch."""

import json
import math
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import lightning

from capsbench.data.files import written_atomically
from capsbench.runs.folder import RunFolder
from capsbench.runs.measures import in_words
from capsbench.runs.state import Progress
from capsbench.training import History


class ReportProgress(lightning.Callback):
    """Keeps progress.json up to date, for `capsbench status`, and stops a run whose folder was deleted.

    Args:
        folder: of the run.
        every: seconds between two updates.
    """

    def __init__(self, folder: RunFolder, every: float = 5.0) -> None:
        self.folder = folder
        self.every = every
        self._started: tuple[float, int] | None = None
        self._written = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        now, step = time.time(), trainer.global_step
        if self._started is None:
            self._started = (now, step)
        if trainer.is_global_zero and now - self._written >= self.every:
            self._written = now
            self.folder.check_whole()
            start, first = self._started
            expected = trainer.estimated_stepping_batches
            steps = int(expected) if math.isfinite(expected) else None
            pace = (now - start) / (step - first) if step > first else None
            progress = Progress(
                epoch=trainer.current_epoch + 1,
                step=step,
                steps=steps,
                eta_s=None if pace is None or steps is None else pace * (steps - step),
                updated=now,
            )
            with written_atomically(self.folder.progress) as path:
                path.write_text(json.dumps(asdict(progress)), encoding="utf-8")


class PrintEpochs(lightning.Callback):
    """Prints a line for each epoch: how far the run is, what was measured, how long it took and what remains.

    Args:
        history: has what was measured; the trainer calls it before this callback.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self._began = self._epoch_began = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._began = self._epoch_began = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row, now, step = self.history.epochs[-1], time.monotonic(), trainer.global_step
        split = trainer.datamodule.watched_split  # type: ignore[attr-defined]
        steps = float(trainer.estimated_stepping_batches)
        of_epochs = f" of {trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        of_steps = f" of {steps:,.0f}" if math.isfinite(steps) else ""
        told = [f"train loss {row['train/loss']:.4f}"]
        told += filter(None, [in_words(row, split)])
        told.append(f"{now - self._epoch_began:.1f} s")
        if of_steps and step > self._first_step:
            left = (now - self._began) / (step - self._first_step) * (steps - step)
            told.append(f"{timedelta(seconds=round(left))} left")
        print(f"epoch {row['epoch']}{of_epochs}, step {step:,}{of_steps}: {', '.join(told)}", flush=True)
        self._epoch_began = now
