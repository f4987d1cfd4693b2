"""Batch normalisation inside routers."""

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that takes inputs of any type, and in training one example, too.

    One example is normalised by the running statistics, which stay.

    >>> import torch
    >>> BatchNorm(3)(torch.ones(1, 3)).shape
    torch.Size([1, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (batch, features) or (batch, features, length)."""
        assert self.running_mean is not None
        x = input.to(self.running_mean.dtype)
        if self.training and x.numel() == self.num_features:
            normed = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            normed = super().forward(x)
        return normed.to(input.dtype)
