"""Optimizers: which weights decay, Adam as Keras computes it, and schedules that last as long as the run."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.capsules import CapsuleLayer

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]

LENGTHS = ("T_max", "total_steps", "total_iters")
"""What PyTorch's schedules call their length."""


def parameter_groups(module: nn.Module, loss: nn.Module, decay: str) -> list[dict[str, Any]]:
    """Divide what is trained into parameters that the optimizer's weight decay is for and those that never decay.

    Args:
        module: its parameters are divided.
        loss: a part of it; what it learns never decays.
        decay: "all" is for every other parameter; "kernels", as in the authors' code, for the weights of convolutions
            (also transposed ones) and of the transforms of capsule layers. Then nothing else decays: no bias, no batch
            norm, no linear layer, no parameter of a router or of a user's own kind of layer.

    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    >>> [(len(group["params"]), group.get("weight_decay")) for group in parameter_groups(network, nn.ReLU(), "kernels")]
    [(1, None), (3, 0.0)]
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    meant = set(_kernels(module) if decay == "kernels" else parameters) - set(loss.parameters())
    decaying = [parameter for parameter in parameters if parameter in meant]
    others = [parameter for parameter in parameters if parameter not in meant]
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _kernels(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            yield part.weight
        elif isinstance(part, CapsuleLayer):
            yield part.transform.weight


class KerasAdam(torch.optim.Adam):
    """Adam that adds ε to √v before v's bias is corrected, as in Keras.

    PyTorch adds it afterwards. With an ε of ε/√(1 - β₂ᵗ) at step t, 32 times ε at the first step, PyTorch's rule is
    Keras's.

    Source: Kingma and Ba 2015 (arXiv:1412.6980), the last paragraph of §2, whose ε̂ it is.

    Args:
        params, options: as of `torch.optim.Adam`.
        eps: ε, for all parameter groups.
    """

    def __init__(self, params: Any, *, eps: float = 1e-7, **options: Any) -> None:
        super().__init__(params, eps=eps, **options)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once, and count it."""
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            group["eps"] = self.defaults["eps"] / math.sqrt(1 - group["betas"][1] ** group["steps"])
        return super().step(closure)


def lasting(schedule: SchedulerFactory, length: Callable[[], int]) -> SchedulerFactory:
    """Give a schedule whose length is open, as None, the length that it turns out to have; leave others alone.

    >>> cosine = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=None)
    >>> lasting(cosine, lambda: 7).keywords
    {'T_max': 7}
    """
    settings = getattr(schedule, "keywords", {})
    is_open = [name for name in LENGTHS if name in settings and settings[name] is None]
    return partial(schedule, **dict.fromkeys(is_open, length())) if is_open else schedule
