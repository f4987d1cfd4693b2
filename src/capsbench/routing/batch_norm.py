"""Batch normalisation where a batch may have one example, or none, or be part of a function that is transformed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from capsbench.routing.transformations import in_torch_func


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that takes inputs of any type, and in training one value of each feature or none, too.

    These are normalised by the running statistics, which stay. Parameters and statistics keep at least 32 bits where a
    network is cast to fewer: 16 are too few to add up small changes, and sums over children exceed them.

    Raises:
        RuntimeError: see `check_statistics_may_change`.

    >>> BatchNorm(3)(torch.ones(1, 3)).shape
    torch.Size([1, 3])
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BatchNorm":
        def at_least_32_bits(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            if not made.is_floating_point() or made.dtype.itemsize >= 4:
                return made
            return tensor.to(made.device, torch.float32)

        return super()._apply(at_least_32_bits, recurse)  # type: ignore[no-untyped-call]

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (batch, features) or (batch, features, length)."""
        assert self.running_mean is not None
        x = input.to(self.running_mean.dtype)
        if self.training and x.numel() <= self.num_features:
            normed = by_running_statistics(self, x)
        else:
            check_statistics_may_change(self)
            normed = super().forward(x)
        return normed.to(input.dtype)


def by_running_statistics(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise as in evaluation, whatever mode the module is in."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def check_statistics_may_change(norm: _BatchNorm) -> None:
    """Refuse training within torch.func, unless the statistics are arguments of the function that is transformed.

    Raises:
        RuntimeError: the module trains there, and its statistics are not. PyTorch would say so in terms of its own.
    """
    mean = norm.running_mean
    if (
        norm.training
        and mean is not None
        and in_torch_func()
        and not torch._C._functorch.is_functorch_wrapped_tensor(mean)
    ):
        raise RuntimeError(
            "batch norm in training changes its statistics, which torch.func cannot do; call .eval() first, or pass "
            "the buffers as arguments of the function that is transformed"
        )
