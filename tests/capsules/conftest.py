"""Layers as PyTorch copies them."""

from collections.abc import Callable

import pytest
from torch import nn


def copied(module: nn.Module) -> nn.Module:
    made = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        made._modules[name] = copied(child)
    made._former_parameters = {}
    for name, weight in module._parameters.items():
        if weight is None:
            made._parameters[name] = None
        else:
            made._former_parameters[name] = weight.view_as(weight)
            setattr(made, name, made._former_parameters[name])
    return made


@pytest.fixture
def replica() -> Callable[[nn.Module], nn.Module]:
    """Copy a layer as `torch.nn.parallel.replicate` does: weights are no parameters, but depend on them."""
    return copied
