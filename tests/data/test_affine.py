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


def test_nothing_changes_nothing(patch: torch.Tensor) -> None:
    assert transform(patch, Affine.nothing(1), 28).equal(patch)
    assert transform(patch, Affine.nothing(1), 40)[:, :, 6:34, 6:34].equal(patch)


def test_shifts_are_exact_and_cut_off_at_the_border(patch: torch.Tensor) -> None:
    shift = Affine.nothing(1)._replace(shift_x=torch.tensor([3.0]), shift_y=torch.tensor([-2.0]))
    assert transform(patch, shift, 28).equal(patch.roll((-2, 3), dims=(2, 3)))
    far = Affine.nothing(1)._replace(shift_x=torch.tensor([17.0]))
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
