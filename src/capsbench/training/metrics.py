"""Metrics that are means over examples, in full precision."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric


class Metrics(nn.ModuleDict):
    """Metrics by name. They follow their network to a device, and stay as they are where it is cast to 16 bits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Metrics":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(torch.empty_like(tensor)).device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]


def mean_over_examples() -> MeanMetric:
    """Make a mean that takes one value for each example.

    NaN shows in the mean, and no update waits for the device to look for it: that is what "disable" means. Never give
    it weights: it would drop them (torchmetrics issue 3434).
    """
    return MeanMetric(nan_strategy="disable")
