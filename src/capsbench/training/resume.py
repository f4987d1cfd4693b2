"""Checkpoints in mid-epoch, and stopping on a signal, so that an interrupted run goes on as if it had not been."""

import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint


class Interrupted(Exception):
    """The run was told to stop by a signal.

    Args:
        signal_number: which.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class MidEpochCheckpoint(ModelCheckpoint):
    """Saves everything a run needs to go on, after a training step and at most every so often; one file, the newest.

    Never after the last step of an epoch: there Lightning would take the epoch for finished and skip its evaluation.
    From anywhere else it goes on exactly, since the order and the augmentation of batches are computed from the epoch
    and the step, and metrics are part of the state.

    Args:
        path: of the checkpoint; ".ckpt" at the end.
        every: the time between two.
    """

    def __init__(self, path: Path, every: timedelta) -> None:
        super().__init__(path.parent, filename=path.stem, train_time_interval=every, enable_version_counter=False)

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *arguments)


class StopOnSignal(lightning.Callback):
    """On SIGTERM or SIGINT: finish the step, save a checkpoint, raise `Interrupted`; on a second one exit at once.

    During an evaluation, and after the last step of an epoch, nothing is saved: the run then goes on from the
    checkpoint before.

    Args:
        path: of the checkpoint.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: int | None = None
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

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop(trainer, save=not trainer.is_last_batch)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop(trainer, save=False)

    def on_test_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self._stop(trainer, save=False)

    def _install(self) -> None:
        """Take the signals over; after Lightning, which takes SIGTERM as it starts."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number

    def _stop(self, trainer: lightning.Trainer, save: bool) -> None:
        asked = self.received is not None
        if trainer.world_size > 1:  # ranks stop at the same step, whichever of them got the signal
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            if save:
                trainer.save_checkpoint(self.path)
            raise Interrupted(self.received or signal.SIGTERM)
