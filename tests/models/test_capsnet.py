"""CapsNet: its sizes are the paper's, and any router fits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from capsbench.models import CapsNet
from capsbench.routing import FMAgreement, HitOrMiss

Light = partial(CapsNet, filters=64, groups=8)


@pytest.mark.parametrize(
    ("architecture", "image_shape", "parameters"),
    [
        (CapsNet, (1, 28, 28), 6_804_224),
        (CapsNet, (3, 32, 32), 7_992_576),
        (Light, (1, 28, 28), 705_728),
        (Light, (3, 32, 32), 1_002_816),
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


def test_smallest_images() -> None:
    Light((1, 17, 17), 10, FMAgreement)(torch.randn(2, 1, 17, 17))
    with pytest.raises(ValueError, match=r"needs images of at least 17×17.* got 16×32"):
        CapsNet((1, 16, 32), 10, FMAgreement)
