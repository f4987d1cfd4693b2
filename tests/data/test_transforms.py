"""What is done to batches of images."""

import pytest
import torch

from capsbench.data.transforms import cut, place, standardize, to_unit_range


def images(number: int = 200, channels: int = 3, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (number, channels, size, size), generator=generator, dtype=torch.uint8)


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


def test_cut_takes_each_image_at_its_own_place() -> None:
    stored = images(2, size=48)
    found = cut(stored, torch.tensor([0, 16]), torch.tensor([3, 5]), 32, 20)
    assert found[0].equal(stored[0, :, 0:32, 3:23])
    assert found[1].equal(stored[1, :, 16:48, 5:25])


def test_place_puts_each_image_at_its_own_place() -> None:
    stored = images(2)
    canvas = place(stored, 12, torch.tensor([0, 4]), torch.tensor([3, 1]))
    assert canvas.shape == (2, 3, 12, 12)
    assert canvas[0, :, 0:8, 3:11].equal(stored[0])
    assert canvas[1, :, 4:12, 1:9].equal(stored[1])
    assert canvas.sum() == stored.sum()
