"""CapsNet: its sizes are the paper's, and any router fits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from capsbench.models import CapsNet
from capsbench.routing import FMAgreement

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


def test_images_to_class_capsules(check_architecture: Callable[..., None]) -> None:
    check_architecture(Light)


def test_smallest_images() -> None:
    Light((1, 17, 17), 10, FMAgreement)(torch.randn(2, 1, 17, 17))
    with pytest.raises(ValueError, match=r"needs images of at least 17×17.* got 16×32"):
        CapsNet((1, 16, 32), 10, FMAgreement)
