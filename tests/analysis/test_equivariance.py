"""Equivariance and invariance of networks whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

from capsbench.analysis import measure_equivariance, measure_invariance
from capsbench.analysis.equivariance import r_squared
from capsbench.analysis.invariance import parameter_values
from capsbench.data import CIFAR10, Digits, LabelledImages, MultiMNIST
from capsbench.routing import Capsules
from capsbench.training import ClassificationModule, MarginLoss


class Scales(nn.Module):
    """Two classes: is the ink's centre left or right. The pose holds the centre and nothing else."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(size) - (size - 1) / 2)
        self.weight = nn.Parameter(torch.ones(()))
        self.primary = nn.Identity()

    def forward(self, images: torch.Tensor) -> Capsules:
        self.primary(images)
        ink = images.sum(dim=(1, 2, 3)).clamp_min(1e-6)
        x = torch.einsum("bchw,w->b", images, self.steps) / ink
        y = torch.einsum("bchw,h->b", images, self.steps) / ink
        side = torch.stack([(x < 0).float(), (x >= 0).float()], dim=1) + 0.1
        pose = torch.stack([x, y], dim=1)[:, None] * torch.tensor([1.0, -1.0])[None, :, None]
        return Capsules(self.weight * pose, side)


def module_of(model: nn.Module) -> ClassificationModule:
    return ClassificationModule(model, MarginLoss(), torch.optim.SGD, num_classes=2)


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits()
    data.setup()
    return data


class Patches(Digits):
    """400 equal squares: where the ink's centre is, the square is."""

    def untransformed_images(self) -> LabelledImages:
        images = torch.zeros(400, 1, 32, 32, dtype=torch.uint8)
        images[:, :, 10:22, 10:22] = 200
        return LabelledImages(images, torch.zeros(400, dtype=torch.int64))


def test_a_pose_that_holds_the_place_tells_the_shift() -> None:
    found = measure_equivariance(module_of(Scales()), Patches())
    assert set(found) == {"pose", "pose per class", "features", "activations"}
    # Class 1 holds the negative of what class 0 holds: only a map for each class can read both.
    assert found["pose per class"]["shift_x"].value > 0.99
    assert found["pose per class"]["shift_x"].value > found["pose"]["shift_x"].value + 0.3
    assert found["pose per class"]["rotation"].value < 0.3
    assert found["features"]["shift_x"].value > 0.9
    assert found["activations"]["shift_y"].value < 0.2
    for by_parameter in found.values():
        assert all(r2.low <= r2.value <= r2.high for r2 in by_parameter.values())


def test_the_same_again(digits: Digits) -> None:
    first, second = (measure_equivariance(module_of(Scales()), digits, examples=120) for _ in range(2))
    assert first == second


def test_r_squared() -> None:
    true = np.array([1.0, 2.0, 3.0, 4.0])
    assert r_squared(true, true) == 1
    assert r_squared(true, np.full(4, 2.5)) == 0
    assert r_squared(true, true[::-1]) == pytest.approx(1 - 20 / 5)


def test_accuracy_and_activation_along_each_parameter(digits: Digits) -> None:
    class LeftOrRight(Digits):
        def setup(self, stage: str | None = None) -> None:
            super().setup(stage)
            _, activations = Scales()(self.test_images(self.splits["test"].images))
            self.splits["test"] = self.splits["test"]._replace(labels=activations.argmax(dim=1))

    data = LeftOrRight()
    data.setup()
    curves = measure_invariance(module_of(Scales()), data, steps=5)
    assert list(curves) == ["rotation", "shear", "scale_x", "scale_y", "shift_x", "shift_y"]
    shift = curves["shift_x"]
    assert shift.values == [-10, -5, 0, 5, 10]
    assert shift.accuracy[2] == 1
    left = (data.splits["test"].labels == 0).float().mean().item()
    assert shift.accuracy[0] == pytest.approx(left, abs=0.02)
    assert shift.accuracy[-1] == pytest.approx(1 - left, abs=0.02)
    assert shift.activation_change[2] == 0
    # The winner's activation falls from 1.1 to 0.1 where the digit is on the other side.
    assert shift.activation_change[0] == pytest.approx(-(1 - left) / 1.1, abs=0.02)
    assert curves["shift_y"].accuracy_area > 0.9  # not 1, since ink is cut off
    assert shift.accuracy_area == pytest.approx(np.trapezoid(shift.accuracy) / 4)
    assert shift.change_area == pytest.approx(np.trapezoid(np.abs(shift.activation_change)) / 4)


def test_ranges_are_twice_affnists() -> None:
    assert parameter_values("rotation", 40, 3) == [-40, 0, 40]
    assert parameter_values("scale_x", 40, 5) == [0.6, 0.8, 1.0, 1.2, 1.4]
    assert parameter_values("shift_x", 40, 3) == [-12, 0, 12]


@pytest.mark.parametrize("steps", [1, 4])
def test_steps_without_a_middle(digits: Digits, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be an odd number of at least 3, got {steps}"):
        measure_invariance(module_of(Scales()), digits, steps=steps)


def test_too_few_examples(digits: Digits) -> None:
    with pytest.raises(ValueError, match="examples must be at least 100 for a regression, got 50"):
        measure_equivariance(module_of(Scales()), digits, examples=50)


@pytest.mark.parametrize("kind", [CIFAR10, MultiMNIST])
def test_sets_without_single_shapes(kind: type) -> None:
    with pytest.raises(ValueError, match=r"has no single shapes on black .* affnist, mnist, fashion_mnist and digits"):
        measure_equivariance(module_of(Scales()), kind())
