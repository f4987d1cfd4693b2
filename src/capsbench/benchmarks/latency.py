"""How long a model takes for a batch."""

import statistics
import time

import torch
from torch import Tensor, nn


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
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[warm_up:])
