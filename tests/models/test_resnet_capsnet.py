"""ResNet-capsule network: its sizes are the paper's, and any router fits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from capsbench.models import ResNetCapsNet
from capsbench.routing import FMAgreement

Small = partial(ResNetCapsNet, blocks=(1, 1, 1), hidden_capsules=())


@pytest.mark.parametrize(
    ("architecture", "image_shape", "classes", "parameters"),
    [
        (ResNetCapsNet, (3, 32, 32), 10, 903_760),
        (Small, (1, 40, 40), 10, 195_376),
        (Small, (1, 32, 32), 5, 184_496),
    ],
)
def test_parameter_counts(
    architecture: Callable[..., ResNetCapsNet], image_shape: tuple[int, int, int], classes: int, parameters: int
) -> None:
    model = architecture(image_shape, classes, FMAgreement)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize(
    "architecture", [Small, partial(ResNetCapsNet, blocks=(1, 1, 1))], ids=["one layer", "three layers"]
)
def test_images_to_class_capsules(
    check_architecture: Callable[..., None], architecture: Callable[..., ResNetCapsNet]
) -> None:
    check_architecture(architecture)


def test_hidden_layers_of_fm_hand_on_s_and_the_last_its_pose() -> None:
    model = ResNetCapsNet((1, 16, 16), 10, FMAgreement, blocks=(1, 1, 1), hidden_capsules=(6, 5))
    assert [layer.router.normalize_pose for layer in model.capsule_layers] == [False, False, True]


def test_batch_norm_constants_reach_every_batch_norm() -> None:
    model = ResNetCapsNet((1, 16, 16), 10, FMAgreement, blocks=(1, 2, 1), hidden_capsules=(6,), batch_norm_momentum=0.2)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 12
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}


def test_smallest_images() -> None:
    Small((1, 8, 8), 10, FMAgreement)(torch.randn(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"needs images of at least 8×8.* got 7×32"):
        ResNetCapsNet((1, 7, 32), 10, FMAgreement)


def test_pose_dim_must_be_a_square() -> None:
    with pytest.raises(ValueError, match="pose_dim must be a square number"):
        Small((1, 32, 32), 10, FMAgreement, pose_dim=12)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 0, 1), ()])
def test_blocks_are_three_positive_numbers(blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="blocks must be three numbers of at least 1"):
        ResNetCapsNet((1, 32, 32), 10, FMAgreement, blocks=blocks)
