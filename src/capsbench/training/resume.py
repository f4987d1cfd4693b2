"""Stops a run on a signal, and saves checkpoints from which it resumes exactly."""

import signal
import time
from contextlib import ExitStack
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from capsbench import signals
from capsbench.training.checkpoint import save_checkpoint


class StopOnSignal(lightning.Callback):
    """From the first step on let signals be only recorded, so that `ResumeCheckpoint` can save and stop.

    Our handler is installed after Lightning has installed its own; at the end Lightning puts back what was before.

    Attributes:
        held: a context in which to train; signals are recorded until its end.
    """

    def __init__(self) -> None:
        self.held = ExitStack()
        self._holds = False

    def on_sanity_check_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._hold()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._hold()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        signals.install()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        signals.install()

    def _hold(self) -> None:
        signals.install()
        if not self._holds:
            self._holds = True
            self.held.enter_context(signals.uninterrupted())

    def asked(self, trainer: lightning.Trainer) -> bool:
        """Return whether to stop. All ranks get the same answer, whichever of them received the signal."""
        asked = signals.received() is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked


class ResumeCheckpoint(Checkpoint):
    """Save a checkpoint at regular intervals and when a signal stops the run; the one before it is kept.

    A run resumes exactly after any step of an epoch except the last, and after the evaluation at the epoch's end: the
    order and augmentation of batches are computed from epoch and step, and the checkpoint holds the metrics. It cannot
    resume between an epoch's last step and the end of its evaluation, because Lightning would skip the evaluation. The
    state before the last step is therefore kept in memory, and saved if a signal arrives after it.

    With `max_steps` nothing is saved at the end of an epoch: Lightning would end that epoch a second time.

    Args:
        path: path of the checkpoint.
        previous: path of the checkpoint before it.
        every: least time between two checkpoints.
        stop: records the signal.

    Raises:
        Interrupted: raised inside `fit`, `validate` or `test`.
    """

    def __init__(self, path: Path, previous: Path, every: timedelta, stop: StopOnSignal) -> None:
        self.path = path
        self.previous = previous
        self.every = every
        self.stop = stop
        self._saved = 0.0
        self._kept: dict[str, Any] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        done = batch_idx + 1
        if trainer.is_last_batch or trainer.global_step == trainer.max_steps:
            self._stop_if_asked(trainer)
        elif done % trainer.accumulate_grad_batches == 0:  # a checkpoint holds no gradients
            self._save_if_due(trainer, done)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.should_stop and trainer.early_stopping_callback is not None:  # it would go on after a checkpoint
            self._stop_if_asked(trainer)
        elif trainer.max_steps == -1:
            self._save_if_due(trainer, done=0)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop_if_asked(trainer)

    def on_test_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop_if_asked(trainer)

    def _save_if_due(self, trainer: lightning.Trainer, done: int) -> None:
        """Save if a checkpoint is due or the run is to stop; otherwise keep the state if the next step is the last.

        Args:
            trainer: trainer of the run.
            done: batches of the epoch done so far.
        """
        asked = self.stop.asked(trainer)
        due = time.monotonic() - self._saved >= self.every.total_seconds()
        if asked or trainer.strategy.broadcast(due):
            write_checkpoint(trainer, self.path, previous=self.previous)
            self._saved, self._kept = time.monotonic(), None
        elif self._next_is_last(trainer, done):
            self._kept = deepcopy(state_of(trainer))
        if asked:
            self._interrupt()

    @staticmethod
    def _next_is_last(trainer: lightning.Trainer, done: int) -> bool:
        ends_epoch = done + trainer.accumulate_grad_batches >= trainer.num_training_batches
        return ends_epoch or trainer.global_step + 1 == trainer.max_steps

    def _stop_if_asked(self, trainer: lightning.Trainer) -> None:
        if self.stop.asked(trainer):
            if self._kept is not None:
                write_checkpoint(trainer, self.path, self._kept, self.previous)
            self._interrupt()

    def _interrupt(self) -> None:
        raise signals.Interrupted(signals.received() or signal.SIGTERM)


def state_of(trainer: lightning.Trainer) -> dict[str, Any]:
    """Return the content of a checkpoint. Its tensors are the trainer's own, not copies."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def write_checkpoint(
    trainer: lightning.Trainer, path: Path, state: dict[str, Any] | None = None, previous: Path | None = None
) -> None:
    """Write a checkpoint of a run, see `save_checkpoint`.

    `Trainer.save_checkpoint` is not atomic where temporary files are on another file system.

    Args:
        trainer: trainer of the run; call this on all ranks, rank 0 writes.
        path: path of the checkpoint.
        state: content to write; None takes the trainer's current state.
        previous: where the checkpoint that is replaced is kept.
    """
    state = state_of(trainer) if state is None else state
    if trainer.is_global_zero:
        save_checkpoint(state, path, previous)
    trainer.strategy.barrier("write_checkpoint")
