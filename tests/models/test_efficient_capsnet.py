"""Efficient-CapsNet: its sizes are the source's, and any router fits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.models import EfficientCapsNet
from capsbench.routing import AttentionRouting

SMALL_NORB = {"first_kernel": 7, "first_stride": 2, "norm": "instance"}


@pytest.mark.parametrize(
    ("image_shape", "classes", "settings", "parameters"),
    [((1, 28, 28), 10, {}, 161_824), ((3, 32, 32), 10, {}, 168_544), ((2, 48, 48), 5, SMALL_NORB, 151_664)],
)
def test_parameter_counts(
    image_shape: tuple[int, int, int], classes: int, settings: dict[str, Any], parameters: int
) -> None:
    net = EfficientCapsNet(image_shape, classes, AttentionRouting, **settings)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_images_to_class_capsules(check_architecture: Callable[..., None]) -> None:
    check_architecture(EfficientCapsNet)


def test_a_primary_capsule_sees_its_own_channels_only() -> None:
    net = EfficientCapsNet((1, 28, 28), 10, AttentionRouting).eval()
    features = torch.rand(1, 128, 9, 9)
    before, features[:, 8:16] = net.primary(features), 0.0
    changed = (net.primary(features) != before).flatten()
    assert changed.nonzero().flatten().tolist() == list(range(8, 16))


@pytest.mark.parametrize(("settings", "least"), [({}, 11), (SMALL_NORB | {"norm": "batch"}, 19)])
def test_the_smallest_image(settings: dict[str, Any], least: int) -> None:
    net = EfficientCapsNet((2, least, least), 5, AttentionRouting, **settings)
    assert net.primary.kernel_size == (1, 1)
    with pytest.raises(ValueError, match=f"needs images of at least {least}×{least} pixels .* got 40×{least - 1}"):
        EfficientCapsNet((2, 40, least - 1), 5, AttentionRouting, **settings)


def test_an_instance_norm_of_one_pixel_is_refused() -> None:
    for side in (19, 22):
        with pytest.raises(
            ValueError, match=f'norm="instance" needs a map of .* leave 1×1 of {side}×{side}; take larger'
        ):
            EfficientCapsNet((2, side, side), 5, AttentionRouting, **SMALL_NORB)
    for shape in ((2, 23, 23), (2, 19, 23)):
        net = EfficientCapsNet(shape, 5, AttentionRouting, **SMALL_NORB)
        assert net(torch.rand(2, *shape)).poses.shape == (2, 5, 16)


def test_primary_capsules_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"primary_dim must divide 128, got 7"):
        EfficientCapsNet((1, 28, 28), 10, AttentionRouting, primary_dim=7)
