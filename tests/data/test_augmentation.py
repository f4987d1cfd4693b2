"""Random crops and mirror images."""

import pytest
import torch

from capsbench.data import Augmentation
from capsbench.data.randomness import Draw


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)


def augment(images: torch.Tensor, **options: float) -> torch.Tensor:
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_padding": -1}, "crop_padding must be at least 0, got -1"),
        ({"brightness": -0.1}, "brightness must be at least 0, got -0.1"),
        ({"shift": 1.0}, "shift must be at least 0 and below 1, got 1.0"),
        ({"zoom": 1.5}, "zoom must be at least 0 and below 1, got 1.5"),
        ({"contrast": -0.2}, "contrast must be at least 0 and below 1, got -0.2"),
    ],
)
def test_a_number_out_of_its_range_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.augmentation\.{words}"):
        Augmentation(**options)


@pytest.mark.parametrize(("options", "low", "high"), [({"shift": 0.25}, -2, 2), ({"zoom": 0.5}, -0.5, 0.5)])
def test_an_image_is_moved_in_each_direction_by_itself_and_its_edges_are_repeated(
    options: dict[str, float], low: float, high: float
) -> None:
    """On a ramp each pixel tells where it comes from; beyond an edge it is the edge."""
    ramp = torch.arange(8).byte().expand(200, 1, 8, 8)
    columns, rows = augment(ramp, **options)[:, 0, 3], augment(ramp.mT, **options)[:, 0, :, 3]
    for lines in (columns, rows):
        assert lines.min() == 0
        assert lines.max() == 7
        assert (lines.diff() >= 0).all()
        moved = lines[:, 4] - 4 if "shift" in options else lines[:, 4] - lines[:, 3] - 1
        assert moved.min() < 0.9 * low
        assert moved.max() > 0.9 * high
    assert (columns - rows).abs().max() > 1


def test_brightness_adds_and_contrast_multiplies_about_each_channels_mean(images: torch.Tensor) -> None:
    before, bright = images.float(), augment(images, brightness=0.2)
    offset = (bright - before).mean(dim=(1, 2, 3))
    torch.testing.assert_close(bright, before + offset[:, None, None, None])
    assert offset.min() < -45
    assert 45 < offset.max() <= 51
    contrasted = augment(images, contrast=0.8)
    mean = before.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(contrasted.mean(dim=(2, 3), keepdim=True), mean)
    factor = (contrasted - mean).flatten(1).norm(dim=1) / (before - mean).flatten(1).norm(dim=1)
    torch.testing.assert_close(contrasted, mean + factor[:, None, None, None] * (before - mean), atol=1e-3, rtol=0)
    assert factor.min() < 0.3
    assert 1.7 < factor.max() <= 1.8


def test_a_change_is_the_examples_own(images: torch.Tensor) -> None:
    augmentation = Augmentation(crop_padding=1, flip=True, shift=0.1, zoom=0.1, brightness=0.2, contrast=0.5)
    whole = augmentation(images, Draw(0, 0, torch.arange(200)), 6)
    chosen = torch.tensor([7, 150, 3])
    assert augmentation(images[chosen], Draw(0, 0, chosen), 6).equal(whole[chosen])
    assert not augmentation(images, Draw(0, 1, torch.arange(200)), 6).equal(whole)


def test_a_window_is_cut_anywhere(images: torch.Tensor) -> None:
    found = Augmentation()(images, Draw(0, 0, torch.arange(200)), 6)
    places = [
        {(y, x) for y in range(3) for x in range(3) if image[:, y : y + 6, x : x + 6].equal(window)}
        for image, window in zip(images, found, strict=True)
    ]
    assert all(len(place) == 1 for place in places)
    assert len(set.union(*places)) == 9


def test_pinned_crops_and_flips() -> None:
    """Published numbers depend on these: pixel (row, column) of every image is 16 · row + column."""
    images = (16 * torch.arange(9)[:, None] + torch.arange(9)).byte().expand(6, 1, 9, 9)
    draw = Draw(1, 0, torch.tensor([0, 1, 2, 3, 4, 59_999]))
    middle = Augmentation(crop_padding=4)(images, draw)[:, 0, 4, 4].tolist()
    assert [divmod(pixel, 16) for pixel in middle] == [(7, 4), (6, 1), (3, 3), (1, 6), (5, 3), (1, 1)]
    corner = Augmentation(flip=True)(images, draw)[:, 0, 0, 0].tolist()
    assert [pixel == 8 for pixel in corner] == [False, False, False, False, False, True]
