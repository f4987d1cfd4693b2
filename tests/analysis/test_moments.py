"""Moments of images whose form is known."""

import pytest
import torch

from capsbench.analysis.moments import MOMENTS, image_moments


def square(rows: slice, columns: slice, size: int = 20) -> torch.Tensor:
    image = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    image[:, :, rows, columns] = 100
    return image


def test_place_and_size() -> None:
    (moments,) = image_moments(square(slice(4, 8), slice(11, 19)))
    assert len(moments) == MOMENTS
    centre_x, centre_y, size_x, size_y, slant, lean, ink = moments[:7].tolist()
    assert (centre_x, centre_y) == pytest.approx((14.5 - 9.5, 5.5 - 9.5))
    # The variance of n equal pixels in a row is (n² − 1)/12.
    assert (size_x**2, size_y**2) == pytest.approx((63 / 12, 15 / 12))
    assert (slant, lean) == pytest.approx((0, 0))
    assert ink**2 == pytest.approx(4 * 8 * 100)
    third = moments[7:11]
    assert third.abs().max() < 1e-9, "a rectangle is symmetric"


def test_a_shift_changes_the_place_alone() -> None:
    here, there = (image_moments(square(slice(at, at + 5), slice(3, 9))) for at in (2, 7))
    assert there[0, 1] - here[0, 1] == pytest.approx(5)
    assert torch.allclose(here[0, 2:], there[0, 2:])


def test_a_slanted_line_is_slanted() -> None:
    line = torch.diag(torch.full((20,), 9, dtype=torch.uint8))[None, None]
    assert image_moments(line)[0, 4:6].tolist() == pytest.approx([1, 1])
    assert image_moments(line.flip(3))[0, 4:6].tolist() == pytest.approx([-1, -1])


def test_an_image_without_ink_has_finite_moments() -> None:
    assert image_moments(torch.zeros(1, 1, 20, 20, dtype=torch.uint8)).isfinite().all()
