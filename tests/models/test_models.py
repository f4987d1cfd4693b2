"""Architectures: their sizes are the paper's, and any router fits."""

from functools import partial

import pytest
import torch

from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement, Router

CapsNetLight = partial(CapsNet, filters=64, groups=8)
Small = partial(ResNetCapsNet, blocks=(1, 1, 1), hidden_capsules=())


@pytest.mark.parametrize(
    ("architecture", "image_shape", "classes", "parameters"),
    [
        (CapsNet, (1, 28, 28), 10, 6_804_224),
        (CapsNet, (3, 32, 32), 10, 7_992_576),
        (CapsNetLight, (1, 28, 28), 10, 705_728),
        (CapsNetLight, (3, 32, 32), 10, 1_002_816),
        (ResNetCapsNet, (3, 32, 32), 10, 903_760),
        (Small, (1, 40, 40), 10, 195_376),
        (Small, (1, 32, 32), 5, 184_496),
    ],
)
def test_parameter_counts(
    architecture: partial[torch.nn.Module], image_shape: tuple[int, int, int], classes: int, parameters: int
) -> None:
    model = architecture(image_shape, classes, FMAgreement)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 17, 23)])
@pytest.mark.parametrize("architecture", [CapsNetLight, partial(ResNetCapsNet, blocks=(1, 1, 1)), Small])
def test_images_to_class_capsules(
    architecture: partial[torch.nn.Module], image_shape: tuple[int, int, int], router: type[Router]
) -> None:
    model = architecture(image_shape, 5, router)
    capsules = model(torch.randn(2, *image_shape))
    assert capsules.poses.shape == (2, 5, 16)
    assert capsules.activations.shape == (2, 5)
    capsules.activations.sum().backward()
    for name, parameter in model.named_parameters():
        if "beta_a" not in name:
            assert parameter.grad is not None, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_hidden_layers_of_fm_hand_on_s_and_the_last_its_pose() -> None:
    model = ResNetCapsNet((1, 16, 16), 10, FMAgreement, blocks=(1, 1, 1), hidden_capsules=(6, 5))
    assert [layer.router.normalize_pose for layer in model.capsule_layers] == [False, False, True]


def test_smallest_images() -> None:
    CapsNetLight((1, 17, 17), 10, FMAgreement)(torch.randn(2, 1, 17, 17))
    Small((1, 8, 8), 10, FMAgreement)(torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize(("architecture", "size", "least"), [(CapsNet, 16, "17×17"), (ResNetCapsNet, 7, "8×8")])
def test_images_that_are_too_small(architecture: type[torch.nn.Module], size: int, least: str) -> None:
    with pytest.raises(ValueError, match=f"needs images of at least {least}.* got {size}×32"):
        architecture((1, size, 32), 10, FMAgreement)


def test_pose_dim_must_be_a_square() -> None:
    with pytest.raises(ValueError, match="pose_dim must be a square number"):
        Small((1, 32, 32), 10, FMAgreement, pose_dim=12)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 0, 1), ()])
def test_blocks_are_three_positive_numbers(blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="blocks must be three numbers of at least 1"):
        ResNetCapsNet((1, 32, 32), 10, FMAgreement, blocks=blocks)
