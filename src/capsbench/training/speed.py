"""How fast a model trains and answers."""

import statistics
import time
from typing import Any

import lightning
import torch
from torch import Tensor, nn


class Throughput(lightning.Callback):
    """Measures training speed: images per second of an epoch, evaluation left out; the median over epochs.

    Each epoch counts from its start to the end of its last training step, making batches included. The first, which
    warms up, is left out where there are others.
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._last_step = 0.0
        self._images = 0
        self._rates: list[float] = []

    @property
    def images_per_second(self) -> float:
        """The median rate so far; NaN before the first epoch is through."""
        rates = self._rates[1:] or self._rates
        return statistics.median(rates) if rates else float("nan")

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        _synchronize(pl_module.device)
        self._start = time.perf_counter()
        self._images = 0

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


def inference_ms(model: nn.Module, images: Tensor, repetitions: int = 10, warm_up: int = 2) -> float:
    """Median milliseconds of a forward pass in evaluation mode.

    Args:
        model: on the device of the images.
        images: (batch, channel, height, width), ready for the model.
        repetitions, warm_up: passes that count, and passes before them that do not.
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
