"""Stops a run on a signal, and saves checkpoints from which it resumes exactly."""

import os
import signal
import threading
import time
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from capsbench.data.files import written_atomically


class Interrupted(Exception):
    """A signal stopped the run.

    Args:
        signal_number: number of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class StopOnSignal(lightning.Callback):
    """Record SIGTERM or SIGINT during training and evaluation; a second signal ends the process at once.

    `ResumeCheckpoint` then saves and stops. The same signal again within a second does not count as a second one: a
    process on several devices gets Ctrl-C from the terminal and from its parent.

    Attributes:
        received: number of the first signal; None until there is one.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)
    ECHO_S = 1.0

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._before: dict[int, Any] = {}

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.getsignal(number) for number in self.SIGNALS}

    def on_sanity_check_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._install()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._install()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._install()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._install()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._give_back()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _install(self) -> None:
        """Install the handlers; call it after Lightning has installed its own for SIGTERM."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
        elif number != self.received or now - self._received_at > self.ECHO_S:
            os._exit(128 + number)

    def asked(self, trainer: lightning.Trainer) -> bool:
        """Return whether to stop. All ranks get the same answer, whichever of them received the signal."""
        asked = self.received is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked


class ResumeCheckpoint(Checkpoint):
    """Save a checkpoint at regular intervals and when a signal stops the run; each replaces the one before.

    A run resumes exactly after any step of an epoch except the last, and after the evaluation at the epoch's end: the
    order and augmentation of batches are computed from epoch and step, and the checkpoint holds the metrics. It cannot
    resume between an epoch's last step and the end of its evaluation, because Lightning would skip the evaluation. The
    state before the last step is therefore kept in memory, and saved if a signal arrives after it.

    With `max_steps` nothing is saved at the end of an epoch: Lightning would end that epoch a second time.

    Args:
        path: path of the checkpoint.
        every: least time between two checkpoints.
        stop: records the signal.

    Raises:
        Interrupted: raised inside `fit`, `validate` or `test`.
    """

    def __init__(self, path: Path, every: timedelta, stop: StopOnSignal) -> None:
        self.path = path
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
        if trainer.max_steps == -1:
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
            write_checkpoint(trainer, self.path)
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
                write_checkpoint(trainer, self.path, self._kept)
            self._interrupt()

    def _interrupt(self) -> None:
        raise Interrupted(self.stop.received or signal.SIGTERM)


def state_of(trainer: lightning.Trainer) -> dict[str, Any]:
    """Return the content of a checkpoint. Its tensors are the trainer's own, not copies."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def write_checkpoint(trainer: lightning.Trainer, path: Path, state: dict[str, Any] | None = None) -> None:
    """Write a checkpoint atomically.

    `Trainer.save_checkpoint` is not atomic where temporary files are on another file system.

    Args:
        trainer: trainer of the run; call this on all ranks, rank 0 writes.
        path: path of the checkpoint.
        state: content to write; None takes the trainer's current state.
    """
    state = state_of(trainer) if state is None else state
    if trainer.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as temporary, temporary.open("wb") as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # a full disk, after which PyTorch cannot end the file
                    raise error.__context__ from None
                raise
    trainer.strategy.barrier("write_checkpoint")
