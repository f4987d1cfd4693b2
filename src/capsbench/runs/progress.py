"""How far a run is: progress.json in its folder."""

import json
import time
from dataclasses import asdict
from typing import Any

import lightning

from capsbench.data.files import written_atomically
from capsbench.runs.folder import RunFolder
from capsbench.runs.state import Progress


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
            steps = int(trainer.estimated_stepping_batches)
            pace = (now - start) / (step - first) if step > first else None
            progress = Progress(
                epoch=trainer.current_epoch + 1,
                step=step,
                steps=steps,
                eta_s=None if pace is None else pace * (steps - step),
                updated=now,
            )
            with written_atomically(self.folder.progress) as path:
                path.write_text(json.dumps(asdict(progress)))
