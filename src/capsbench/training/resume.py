"""Checkpoints between epochs and within, and stopping on a signal, so that a run goes on as if never interrupted."""

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
    """The run was told to stop by a signal.

    Args:
        signal_number: which.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class StopOnSignal(lightning.Callback):
    """Notes SIGTERM and SIGINT while the run trains and is tested, for `ResumeCheckpoint`; a second one exits at once.

    The same signal within a second is no second one: it comes from the terminal, and again from the process that
    started this one.

    Attributes:
        received: the signal's number, once there was one.
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
        """Take the signals over; after Lightning, which takes SIGTERM as it starts."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._received_at = number, now
        elif number != self.received or now - self._received_at > self.ECHO_S:
            os._exit(128 + number)

    def asked(self, trainer: lightning.Trainer) -> bool:
        """Whether to stop: ranks stop at the same step, whichever of them got the signal."""
        asked = self.received is not None
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked


class ResumeCheckpoint(Checkpoint):
    """Saves everything a run needs to go on, at most every so often and when it is told to stop; one file, the newest.

    From any step of an epoch but the last a run goes on exactly, since the order and the augmentation of batches are
    computed from the epoch and the step, and metrics are part of the state; so it does from the end of an epoch, after
    its evaluation. Not from between the two: there Lightning would take the evaluation for done. So the state before
    an epoch's last step, or the run's, is kept in memory, to be saved where the run is told to stop later than that.

    With `max_steps` Lightning would take an epoch that is over for one to be ended, so nothing is saved there.

    Args:
        path: of the checkpoint.
        every: the time between two.
        stop: says when to stop.

    Raises:
        Interrupted: from inside `fit` or `test`.
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
        elif done % trainer.accumulate_grad_batches == 0:  # gradients are no part of the state
            self._save_if_due(trainer, done)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.max_steps == -1:
            self._save_if_due(trainer, done=0)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop_if_asked(trainer)

    def on_test_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop_if_asked(trainer)

    def _save_if_due(self, trainer: lightning.Trainer, done: int) -> None:
        """Save after so many batches of an epoch, if it is time; before the last step keep the state in any case."""
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
    """Everything that a checkpoint holds: the trainer's own tensors, not copies."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def write_checkpoint(trainer: lightning.Trainer, path: Path, state: dict[str, Any] | None = None) -> None:
    """Write a checkpoint so that the file is either as before or whole, whenever the process dies.

    Lightning's own way moves a file from the directory for temporary ones, which copies it between file systems.

    Args:
        trainer: called on all ranks; the first writes.
        path: of the checkpoint.
        state: what to write; the trainer's present state if not given.
    """
    state = state_of(trainer) if state is None else state
    if trainer.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(path) as temporary:
            torch.save(state, temporary)
    trainer.strategy.barrier("write_checkpoint")
