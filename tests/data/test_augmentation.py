"""Random crops and mirror images."""

import pytest
import torch

from capsbench.data import Augmentation
from capsbench.data.randomness import Draw


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)


def augment(images: torch.Tensor, **options: int) -> torch.Tensor:
    return Augmentation(**options)(images, Draw(0, 0, torch.arange(len(images))))


def test_crops_are_windows_of_the_padded_image_and_all_are_reached(images: torch.Tensor) -> None:
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    reached = set()
    for original, crop in zip(padded, augment(images, crop_padding=1), strict=True):
        places = [(y, x) for y in range(3) for x in range(3) if original[:, y : y + 8, x : x + 8].equal(crop)]
        assert len(places) == 1
        reached |= set(places)
    assert len(reached) == 9


def test_flip_mirrors_about_half(images: torch.Tensor) -> None:
    flipped = augment(images, flip=True)
    mirrored = sum(a.flip(-1).equal(b) for a, b in zip(images, flipped, strict=True))
    kept = sum(a.equal(b) for a, b in zip(images, flipped, strict=True))
    assert mirrored + kept == 200
    assert 70 < mirrored < 130


def test_the_default_changes_nothing(images: torch.Tensor) -> None:
    assert augment(images).equal(images)


def test_a_crop_is_flipped_after_it_was_cut(images: torch.Tensor) -> None:
    both, cropped = augment(images, crop_padding=2, flip=True), augment(images, crop_padding=2)
    assert both.equal(augment(cropped, flip=True))


def test_negative_padding() -> None:
    with pytest.raises(ValueError, match=r"data\.augmentation\.crop_padding must be at least 0, got -1"):
        Augmentation(crop_padding=-1)


def test_pinned_crops_and_flips() -> None:
    """Published numbers depend on these: pixel (row, column) of every image is 16 · row + column."""
    images = (16 * torch.arange(9)[:, None] + torch.arange(9)).byte().expand(6, 1, 9, 9)
    draw = Draw(1, 0, torch.tensor([0, 1, 2, 3, 4, 59_999]))
    middle = Augmentation(crop_padding=4)(images, draw)[:, 0, 4, 4].tolist()
    assert [divmod(pixel, 16) for pixel in middle] == [(7, 4), (6, 1), (3, 3), (1, 6), (5, 3), (1, 1)]
    corner = Augmentation(flip=True)(images, draw)[:, 0, 0, 0].tolist()
    assert [pixel == 8 for pixel in corner] == [False, False, False, False, False, True]
