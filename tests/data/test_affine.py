"""Transformations by known amounts, and the amounts that the generator returns."""

import pytest
import torch

from capsbench.data.affine import Affine, transform, transform_at_random
from capsbench.data.randomness import Draw


@pytest.fixture
def patch() -> torch.Tensor:
    """A lopsided patch of ink, 28×28."""
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 6:20, 8:14] = 200
    image[0, 0, 6:10, 14:19] = 255
    return image


def test_the_identity_changes_nothing(patch: torch.Tensor) -> None:
    assert transform(patch, Affine.identity(1), 28).equal(patch)
    assert transform(patch, Affine.identity(1), 40)[:, :, 6:34, 6:34].equal(patch)


def test_shifts_are_exact_and_cut_off_at_the_border(patch: torch.Tensor) -> None:
    shift = Affine.identity(1)._replace(shift_x=torch.tensor([3.0]), shift_y=torch.tensor([-2.0]))
    assert transform(patch, shift, 28).equal(patch.roll((-2, 3), dims=(2, 3)))
    far = Affine.identity(1)._replace(shift_x=torch.tensor([17.0]))
    assert transform(patch, far, 28).sum() == patch[..., :11].sum()


def test_the_generator_says_what_it_did(patch: torch.Tensor) -> None:
    images, affine = transform_at_random(patch.repeat(200, 1, 1, 1), Draw(0, 0, torch.arange(200)), 40)
    assert images.equal(transform(patch.repeat(200, 1, 1, 1), affine, 40))
    bounds = {"rotation": (-20, 20), "shear": (-0.2, 0.2), "scale_x": (0.8, 1.2), "scale_y": (0.8, 1.2)}
    for name, (low, high) in bounds.items():
        values = getattr(affine, name)
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert (images.flatten(1).amax(dim=1) > 0).all()
    assert affine.shift_x.unique().numel() > 10


def test_pinned_transformations(patch: torch.Tensor) -> None:
    """The published test images of affNIST (generated) depend on these numbers."""
    indices = torch.tensor([0, 1, 319_999])
    images, affine = transform_at_random(patch.repeat(3, 1, 1, 1), Draw(0, 0, indices), 40)
    assert affine.rotation.tolist() == pytest.approx([-5.3705931, -15.2354431, -8.0444717], abs=1e-5)
    assert affine.shear.tolist() == pytest.approx([0.1357369, -0.0880537, -0.1794326], abs=1e-6)
    assert affine.scale_x.tolist() == pytest.approx([1.0681121, 0.9960634, 1.1246552], abs=1e-6)
    assert affine.scale_y.tolist() == pytest.approx([0.9073336, 0.9992893, 0.8604702], abs=1e-6)
    assert affine.shift_x.tolist() == [5, -12, 1]
    assert affine.shift_y.tolist() == [11, 9, -12]
    assert images.sum(dim=(1, 2, 3)).tolist() == pytest.approx([21245, 21797, 21190], abs=20)


def test_ink_reaches_every_border_and_is_not_cut_off(patch: torch.Tensor) -> None:
    images, affine = transform_at_random(patch.repeat(500, 1, 1, 1), Draw(0, 0, torch.arange(500)), 40)
    ink = images[:, 0] > 0
    for lines in (ink.any(dim=1), ink.any(dim=2)):
        assert lines[:, 0].any()
        assert lines[:, -1].any()
    wide = transform(
        patch.repeat(500, 1, 1, 1), affine._replace(shift_x=torch.zeros(500), shift_y=torch.zeros(500)), 64
    )
    assert images.sum(dim=(1, 2, 3)).equal(wide.sum(dim=(1, 2, 3)))
