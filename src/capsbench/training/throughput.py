"""Measures the speed of training and inference."""

import os
import statistics
import time
from typing import Any

import lightning
import torch
from torch import Tensor, nn


class Throughput(lightning.Callback):
    """Measure training speed: the median over epochs of images per second, without evaluation.

    An epoch is timed from its start (or from where it resumes) to the end of its last training step; making batches
    counts. The first epoch warms up and is left out if there are others. Checkpoints save the measurements.

    Attributes:
        load_before: the machine's load average when training began, in its first session.
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._last_step = 0.0
        self._images = 0
        self._rates: list[float] = []
        self._begun: float | None = None
        self._seconds_before = 0.0
        self.load_before: float | None = None

    @property
    def images_per_second(self) -> float:
        """Median images per second so far; NaN during the first epoch."""
        rates = self._rates[1:] or self._rates
        return statistics.median(rates) if rates else float("nan")

    @property
    def seconds(self) -> float:
        """Seconds of training, with its evaluations, over all sessions of the run."""
        return self._seconds_before + (time.perf_counter() - self._begun if self._begun is not None else 0.0)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._begun = time.perf_counter()
        if self.load_before is None:
            self.load_before = load_average()
        self._restart(pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._restart(pl_module)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._images += len(batch.labels) * trainer.world_size
        if trainer.is_last_batch:
            _synchronize(pl_module.device)
        self._last_step = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._images:
            self._rates.append(self._images / (self._last_step - self._start))

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self._rates, "seconds": self.seconds, "load": self.load_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rates, self._seconds_before = list(state_dict["rates"]), state_dict["seconds"]
        self.load_before = state_dict.get("load")

    def _restart(self, pl_module: lightning.LightningModule) -> None:
        _synchronize(pl_module.device)
        self._start = time.perf_counter()
        self._images = 0


def load_average() -> float | None:
    """The number of processes that ran or waited to run on this machine, a mean over the last minute.

    None where the system does not tell.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def inference_ms(model: nn.Module, images: Tensor, repetitions: int = 10, warm_up: int = 2) -> float:
    """Return the median milliseconds of a forward pass in evaluation mode.

    Args:
        model: network on the device of the images.
        images: preprocessed images (batch, channel, height, width).
        repetitions: timed passes.
        warm_up: untimed passes before them.
    """
    model.eval()
    times = []
    with torch.inference_mode():
        for _ in range(warm_up + repetitions):
            start = time.perf_counter()
            model(images)
            _synchronize(images.device)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[warm_up:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
