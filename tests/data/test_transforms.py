"""Preparation and augmentation of whole batches."""

import pytest
import torch

from capsbench.data.randomness import Draw
from capsbench.data.transforms import random_crop, random_flip, standardize, to_unit_range


def images(number: int = 200, channels: int = 3, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (number, channels, size, size), generator=generator, dtype=torch.uint8)


def draw(number: int = 200) -> Draw:
    return Draw(0, 0, torch.arange(number))


def test_unit_range() -> None:
    assert to_unit_range(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)).flatten().tolist() == pytest.approx(
        [0, 0.2, 1]
    )


def test_standardize_each_image() -> None:
    standard = standardize(images())
    torch.testing.assert_close(standard.mean(dim=(1, 2, 3)), torch.zeros(200), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(dim=(1, 2, 3), correction=0), torch.ones(200))


def test_a_flat_image_becomes_zeros() -> None:
    assert standardize(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)).eq(0).all()


def test_crops_are_windows_of_the_padded_image_and_all_are_reached() -> None:
    originals = images()
    crops = random_crop(originals, 1, draw())
    padded = torch.nn.functional.pad(originals, (1, 1, 1, 1))
    reached = set()
    for original, crop in zip(padded, crops, strict=True):
        places = [(y, x) for y in range(3) for x in range(3) if original[:, y : y + 8, x : x + 8].equal(crop)]
        assert len(places) == 1
        reached |= set(places)
    assert len(reached) == 9


def test_flip_mirrors_about_half() -> None:
    originals = images()
    flipped = random_flip(originals, draw())
    mirrored = sum(a.flip(-1).equal(b) for a, b in zip(originals, flipped, strict=True))
    kept = sum(a.equal(b) for a, b in zip(originals, flipped, strict=True))
    assert mirrored + kept == 200
    assert 70 < mirrored < 130
