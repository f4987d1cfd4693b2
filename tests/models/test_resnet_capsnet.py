"""ResNet-capsule network: its sizes are the paper's, and any router fits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from capsbench.models import ResNetCapsNet
from capsbench.models.backbone import PreActivationBlock
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


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({"shortcut": "raw", "stride_padding": "tensorflow", "conv_init": "keras"}, 0),
        ({"primary_norm": "per_capsule"}, 2 * 16 * (64 - 1)),
    ],
)
def test_only_per_capsule_norm_adds_parameters(options: dict[str, Any], added: int) -> None:
    def count(**options: Any) -> int:
        return sum(p.numel() for p in Small((1, 32, 32), 5, FMAgreement, **options).parameters())

    assert count(**options) == count() + added


@pytest.mark.parametrize("size", [8, 9, 16, 17, 28, 30, 36])
def test_padding_of_either_kind_gives_as_many_capsules(size: int) -> None:
    symmetric, tensorflow = (
        Small((1, size, size), 5, FMAgreement, stride_padding=kind) for kind in ("symmetric", "tensorflow")
    )
    images = torch.randn(2, 1, size, size)
    poses = [model.primary(model.backbone(images)).poses for model in (symmetric, tensorflow)]
    assert poses[0].shape == poses[1].shape == (2, symmetric.primary.num_capsules, 16)


@pytest.mark.parametrize(("stride", "in_channels"), [(2, 16), (1, 16), (1, 32)])
def test_a_raw_shortcut_reads_the_input_itself(stride: int, in_channels: int) -> None:
    activated, raw = (
        PreActivationBlock(in_channels, 32, stride, 0.01, shortcut=shortcut).eval() for shortcut in ("activated", "raw")
    )
    for block in (activated, raw):
        torch.nn.init.zeros_(block.residual[-1].weight)  # only the shortcut is left
    raw.load_state_dict(activated.state_dict())
    images = torch.randn(2, in_channels, 8, 8)
    changed = in_channels != 32 or stride != 1
    torch.testing.assert_close(raw(images), raw.projection(images) if changed else images)
    positive = activated.activation(images) if changed else images
    torch.testing.assert_close(activated(images), activated.projection(positive) if changed else images)


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
