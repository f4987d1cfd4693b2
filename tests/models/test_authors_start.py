"""With the settings of the authors' code, votes begin as large as there; computed for noise of unit variance."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from capsbench.capsules import CapsuleLayer
from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import DynamicRouting

CAPSNET: dict[str, Any] = {"weight_init": "kernel", "conv_init": "keras"}
RESNET: dict[str, Any] = {**CAPSNET, "shortcut": "raw", "stride_padding": "tensorflow", "vote_gain": 1.0}
Light = partial(CapsNet, filters=64, groups=8, **CAPSNET)
Small = partial(ResNetCapsNet, blocks=(1, 1, 1), hidden_capsules=(), **RESNET)
PerElement = partial(Small, primary_norm="per_capsule", vote_norm="per_vote")

CASES = [  # image, classes, and the standard deviation of each layer's weights and votes
    (Light, (1, 28, 28), 10, [0.0064], [0.0013]),
    (Light, (3, 32, 32), 10, [0.0048], [0.0020]),
    (partial(CapsNet, **CAPSNET), (1, 28, 28), 10, [0.0032], [0.0002]),
    (Small, (1, 40, 40), 10, [0.0158], [0.23]),
    (Small, (1, 32, 32), 5, [0.0280], [0.37]),
    (PerElement, (1, 32, 32), 5, [0.0280], [0.37]),
    (partial(ResNetCapsNet, **RESNET), (3, 32, 32), 10, [0.0110, 0.0221, 0.0395], [0.16, 0.010, 0.0001]),
]


@pytest.mark.parametrize(("architecture", "image_shape", "classes", "of_weights", "of_votes"), CASES)
def test_weights_and_votes_at_the_start(
    architecture: Callable[..., torch.nn.Module],
    image_shape: tuple[int, int, int],
    classes: int,
    of_weights: list[float],
    of_votes: list[float],
) -> None:
    torch.manual_seed(0)
    model = architecture(image_shape, classes, partial(DynamicRouting, implementation="plain"))
    layers = [module for module in model.modules() if isinstance(module, CapsuleLayer)]
    found: list[float] = []
    for layer in layers:
        layer.router.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].std().item()))
    with torch.no_grad():
        model(torch.randn(32, *image_shape))
    assert [layer.transform.weight.std().item() for layer in layers] == pytest.approx(of_weights, rel=0.05)
    assert found == pytest.approx(of_votes, rel=0.15, abs=0.00005)
