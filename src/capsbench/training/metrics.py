"""Metrics that are means over examples, in full precision."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, distributed, nn
from torchmetrics import MeanMetric
from torchmetrics.utilities.distributed import gather_all_tensors

States = Mapping[str, Mapping[str, Tensor]]
"""Of metrics, by their names."""


class Metrics(nn.ModuleDict):
    """Metrics by name. They follow their network to a device, and stay as they are where it is cast to 16 bits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Metrics":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(torch.empty_like(tensor)).device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]

    def states(self) -> States:
        """What the metrics have seen, which torchmetrics keeps out of `state_dict`. All ranks must call it.

        Each rank has seen its own examples, so over several ranks the first dimension of a tensor is the rank.
        """
        found: States = {name: metric.metric_state for name, metric in self.items()}  # type: ignore[misc]
        if not _is_shared():
            return found
        return {
            name: {key: torch.stack(gather_all_tensors(value)) for key, value in state.items()}
            for name, state in found.items()
        }

    def restore(self, states: States) -> None:
        """Go on from what `states` returned on as many ranks.

        Raises:
            ValueError: over several ranks, the states are those of one: earlier versions kept no others.
        """
        for name, state in states.items():
            for key, value in state.items():
                if _is_shared() and value.ndim == 0:
                    raise ValueError(
                        "an earlier version left this run; it cannot go on: delete its folder to begin anew"
                    )
                setattr(self[name], key, value[distributed.get_rank()] if _is_shared() else value)


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def mean_over_examples() -> MeanMetric:
    """Make a mean that takes one value for each example.

    NaN shows in the mean, and no update waits for the device to look for it: that is what "disable" means. Never give
    it weights: it would drop them (torchmetrics issue 3434).
    """
    return MeanMetric(nan_strategy="disable")
