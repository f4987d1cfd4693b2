"""Whether PyTorch transforms what is computed, instead of only computing it."""

import torch
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Return whether this runs under torch.compile, torch.export, torch.func or forward-mode differentiation.

    Blocks of votes are hidden from these, and so is the value of a tensor. So a capsule layer then computes all votes,
    and a router checks no numbers.

    >>> is_transformed(), torch.func.vmap(lambda x: x * is_transformed())(torch.ones(2))
    (False, tensor([1., 1.]))
    """
    return torch.compiler.is_compiling() or in_torch_func() or forward_ad._current_level >= 0


def in_torch_func() -> bool:
    """Return whether this runs within torch.func.grad, vmap, jvp or the like."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
