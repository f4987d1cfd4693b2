"""Equivariance of poses that are known."""

import numpy as np
import pytest
import torch

from capsbench.analysis import measure_equivariance
from capsbench.analysis.equivariance import Responses, differences, explained, r_squared
from capsbench.data import CIFAR10, Digits, LabelledImages, MultiMNIST
from capsbench.models import ResNet
from capsbench.routing import no_router
from capsbench.training import ClassificationModule, MarginLoss

SETS = 600
NATURAL, APPLIED = 13.3, 11.5
"""Standard deviations, in degrees, of MNIST's natural slant and of affNIST's rotations."""


class Patches(Digits):
    """400 squares of two classes: where the ink's centre is, the square is."""

    def untransformed_images(self) -> LabelledImages:
        images = torch.zeros(400, 1, 32, 32, dtype=torch.uint8)
        images[:, :, 10:22, 10:22] = 200
        return LabelledImages(images, torch.arange(400) % 2)


class Synthetic:
    """Digits of two classes with a natural slant, each rotated twice; poses of two dimensions.

    Attributes:
        natural: (digit, 1) degrees.
        applied: (digit, 1) degrees of both rotations.
        labels: (digit,).
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal() -> torch.Tensor:
            return torch.randn(SETS, 1, generator=generator)

        self.natural = NATURAL * normal()
        self.applied = (APPLIED * normal(), APPLIED * normal())
        self.noise = (normal(), normal())
        self.labels = torch.arange(SETS) % 2

    def r2(self, first: torch.Tensor, second: torch.Tensor) -> dict[str, float]:
        """R² of the rotation from poses of the digit's own class; the other class has noise."""
        own = torch.nn.functional.one_hot(self.labels, 2).bool()

        def respond(pose: torch.Tensor, noise: torch.Tensor) -> Responses:
            poses = torch.where(own[:, :, None], torch.cat([pose, noise], dim=1)[:, None], noise[:, None])
            return Responses(poses, activations=noise.expand(-1, 2), features=noise)

        both = [respond(pose, noise) for pose, noise in zip((first, second), self.noise, strict=True)]
        target = self.applied[0] - self.applied[1]
        predictors = differences(*both, torch.zeros(SETS, 16), self.labels)
        return {name: found.value for name, x in predictors.items() if (found := explained(x, target)[0])}


@pytest.fixture
def synthetic() -> Synthetic:
    return Synthetic()


def test_a_pose_that_holds_the_orientation_is_found_equivariant(synthetic: Synthetic) -> None:
    first, second = (synthetic.natural + applied for applied in synthetic.applied)
    found = synthetic.r2(first, second)
    assert found["pose"] > 0.99
    assert found["pose per class"] > 0.99
    # From one image the same pose explains 11.5² / (11.5² + 13.3²) = 0.43: a digit's own slant looks like a rotation.
    (single,) = explained(first, synthetic.applied[0])
    assert single is not None
    assert 0.3 < single.value < 0.55


def test_a_pose_that_holds_only_the_digits_own_slant_tells_nothing(synthetic: Synthetic) -> None:
    noise = [0.1 * one for one in synthetic.noise]
    found = synthetic.r2(synthetic.natural + noise[0], synthetic.natural + noise[1])
    assert abs(found["pose"]) < 0.05
    assert abs(found["pose per class"]) < 0.05


def test_coordinates_of_each_class_need_a_map_for_each_class(synthetic: Synthetic) -> None:
    sign = 1 - 2 * synthetic.labels[:, None]
    first, second = (sign * (synthetic.natural + applied) for applied in synthetic.applied)
    found = synthetic.r2(first, second)
    assert found["pose"] < 0.1
    assert found["pose per class"] > 0.99
    assert abs(found["activations"]) < 0.05


def test_the_interval_is_over_digits_that_were_not_fitted(synthetic: Synthetic) -> None:
    target = synthetic.applied[0]
    (found,) = explained(target + 5 * synthetic.noise[0], target)
    assert found is not None
    assert found.low < found.value < found.high
    assert found.digits == SETS // 2
    assert explained(target, torch.ones(SETS, 1)) == [None], "what does not vary has no R²"


def test_a_network_that_holds_the_place_tells_the_shift(module: ClassificationModule) -> None:
    found = measure_equivariance(module, Patches())
    assert set(found) == {"pose", "pose per class", "moments", "features", "activations"}
    # Class 1 holds the negative of what class 0 holds: only a map for each class can read both.
    assert found["pose per class"]["shift_x"].value > 0.99
    assert found["pose"]["shift_x"].value < 0.5
    assert found["pose per class"]["rotation"].value < 0.3
    assert found["moments"]["shift_y"].value > 0.99
    assert found["moments"]["scale_x"].value > 0.9
    assert found["features"]["shift_x"].value > 0.9
    assert found["activations"]["shift_y"].value < 0.2
    for by_parameter in found.values():
        assert all(r2.low <= r2.value <= r2.high for r2 in by_parameter.values())


def test_the_same_again(module: ClassificationModule) -> None:
    first, second = (measure_equivariance(module, Patches(), examples=120) for _ in range(2))
    assert first == second


def test_r_squared() -> None:
    true = np.array([1.0, 2.0, 3.0, 4.0])
    assert r_squared(true, true) == 1
    assert r_squared(true, np.full(4, 2.5)) == 0
    assert r_squared(true, true[::-1]) == pytest.approx(1 - 20 / 5)


def test_too_few_examples(module: ClassificationModule, digits: Digits) -> None:
    with pytest.raises(ValueError, match="examples must be at least 100 for a regression, got 50"):
        measure_equivariance(module, digits, examples=50)


def test_a_network_without_primary_capsules(digits: Digits) -> None:
    net = ResNet(digits.image_shape, 10, no_router, blocks=(1, 1, 1))
    module = ClassificationModule(net, MarginLoss(), torch.optim.SGD, num_classes=10)
    with pytest.raises(ValueError, match="ResNet has no layer of primary capsules"):
        measure_equivariance(module, digits)


@pytest.mark.parametrize("kind", [CIFAR10, MultiMNIST])
def test_sets_without_single_shapes(module: ClassificationModule, kind: type) -> None:
    with pytest.raises(ValueError, match=r"has no single shapes on black .* affnist, mnist, fashion_mnist and digits"):
        measure_equivariance(module, kind())
