"""CapsNet: its sizes are the paper's, and any router fits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from capsbench.models import CapsNet
from capsbench.routing import FMAgreement, HitOrMiss

Light = partial(CapsNet, filters=64, groups=8)
Padded = partial(CapsNet, groups=64, padding="same")
ForSVHN = partial(CapsNet, filters=64, groups=16, primary_dim=6, pose_dim=8)


@pytest.mark.parametrize(
    ("architecture", "image_shape", "parameters"),
    [
        (CapsNet, (1, 28, 28), 6_804_224),
        (CapsNet, (3, 32, 32), 7_992_576),
        (Light, (1, 28, 28), 705_728),
        (Light, (3, 32, 32), 1_002_816),
        (Padded, (3, 24, 24), 22_476_288),
        (ForSVHN, (3, 32, 32), 1_004_896),
    ],
)
def test_parameter_counts(
    architecture: Callable[..., CapsNet], image_shape: tuple[int, int, int], parameters: int
) -> None:
    model = architecture(image_shape, 10, FMAgreement)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize(("image_shape", "parameters"), [((1, 28, 28), 6_804_544), ((3, 32, 32), 7_992_896)])
def test_hitnet_is_a_capsnet_with_rectified_primary_capsules(
    image_shape: tuple[int, int, int], parameters: int
) -> None:
    model = CapsNet(image_shape, 10, HitOrMiss, primary="relu")
    assert sum(p.numel() for p in model.parameters()) == parameters
    children = model.primary(torch.randn(2, 256, *(size - 8 for size in image_shape[1:]))).poses
    assert children.min() == 0
    assert children.max() > 0


def test_images_to_class_capsules(check_architecture: Callable[..., None]) -> None:
    check_architecture(Light)


@pytest.mark.parametrize("shape", [(24, 24), (9, 12), (7, 5)])
def test_padding_keeps_half_the_places_and_adds_a_zero_more_after_than_before(shape: tuple[int, int]) -> None:
    model = Light((1, *shape), 10, FMAgreement, padding="same")
    images = torch.randn(2, 1, *shape)
    rows, columns = (-(-side // 2) for side in shape)
    assert model.primary.num_capsules == rows * columns * 8
    features = model.conv(images)
    assert features.shape[2:] == shape
    height, width = ((2 * half + 7 - side) for half, side in zip((rows, columns), shape, strict=True))
    padded = torch.nn.functional.pad(features, (width // 2, width - width // 2, height // 2, height - height // 2))
    expected = torch.nn.functional.conv2d(padded, model.primary.conv.weight, model.primary.conv.bias, 2)
    torch.testing.assert_close(model.primary.conv(features), expected)
    assert model(images).activations.shape == (2, 10)


def test_smallest_images() -> None:
    Light((1, 17, 17), 10, FMAgreement)(torch.randn(2, 1, 17, 17))
    with pytest.raises(ValueError, match=r"needs images of at least 17×17.* got 16×32"):
        CapsNet((1, 16, 32), 10, FMAgreement)
