"""Equivariance of a network whose poses are known."""

import numpy as np
import pytest
import torch

from capsbench.analysis import measure_equivariance
from capsbench.analysis.equivariance import r_squared
from capsbench.data import CIFAR10, Digits, LabelledImages, MultiMNIST
from capsbench.training import ClassificationModule


class Patches(Digits):
    """400 equal squares: where the ink's centre is, the square is."""

    def untransformed_images(self) -> LabelledImages:
        images = torch.zeros(400, 1, 32, 32, dtype=torch.uint8)
        images[:, :, 10:22, 10:22] = 200
        return LabelledImages(images, torch.zeros(400, dtype=torch.int64))


def test_a_pose_that_holds_the_place_tells_the_shift(module: ClassificationModule) -> None:
    found = measure_equivariance(module, Patches())
    assert set(found) == {"pose", "pose per class", "features", "activations"}
    # Class 1 holds the negative of what class 0 holds: only a map for each class can read both.
    assert found["pose per class"]["shift_x"].value > 0.99
    assert found["pose per class"]["shift_x"].value > found["pose"]["shift_x"].value + 0.3
    assert found["pose per class"]["rotation"].value < 0.3
    assert found["features"]["shift_x"].value > 0.9
    assert found["activations"]["shift_y"].value < 0.2
    for by_parameter in found.values():
        assert all(r2.low <= r2.value <= r2.high for r2 in by_parameter.values())


def test_the_same_again(module: ClassificationModule, digits: Digits) -> None:
    first, second = (measure_equivariance(module, digits, examples=120) for _ in range(2))
    assert first == second


def test_r_squared() -> None:
    true = np.array([1.0, 2.0, 3.0, 4.0])
    assert r_squared(true, true) == 1
    assert r_squared(true, np.full(4, 2.5)) == 0
    assert r_squared(true, true[::-1]) == pytest.approx(1 - 20 / 5)


def test_too_few_examples(module: ClassificationModule, digits: Digits) -> None:
    with pytest.raises(ValueError, match="examples must be at least 100 for a regression, got 50"):
        measure_equivariance(module, digits, examples=50)


@pytest.mark.parametrize("kind", [CIFAR10, MultiMNIST])
def test_sets_without_single_shapes(module: ClassificationModule, kind: type) -> None:
    with pytest.raises(ValueError, match=r"has no single shapes on black .* affnist, mnist, fashion_mnist and digits"):
        measure_equivariance(module, kind())
