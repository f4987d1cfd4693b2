"""Weights of classes in the loss."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from capsbench.data import Digits, MultiMNIST
from capsbench.data.weights import check_weights, class_weights


def test_balanced_weights_are_scikit_learns() -> None:
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    found = class_weights("balanced", labels, ["a", "b", "c"])
    assert found is not None
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert found[labels].mean().item() == pytest.approx(1)


def test_they_are_of_what_is_trained_on() -> None:
    data = Digits(subset=100, class_weights="balanced")
    data.setup()
    expected = class_weights("balanced", data.splits["train"].labels, data.names)
    assert data.loss_weights is not None
    assert expected is not None
    assert torch.equal(data.loss_weights, expected)
    given = Digits(class_weights=list(range(1, 11)))
    given.setup()
    assert given.loss_weights is not None
    assert given.loss_weights.tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("even", "must be balanced, a list of a weight for each class, or null, got even"),
        (2.0, "must be balanced, a list"),
        ([1] * 9, "must be 10 numbers, one for each of 0, 1, .*, got 9"),
        ([0] + [1] * 9, "must be positive numbers, got 0"),
        ([-1] + [1] * 9, "must be positive numbers, got -1"),
        ([float("inf")] * 10, "must be positive numbers, got inf"),
        (["1"] * 10, "must be positive numbers, got 1"),
    ],
)
def test_weights_that_cannot_be_used(weights: Any, said: str) -> None:
    def use() -> None:
        check_weights(weights)
        class_weights(weights, torch.tensor([0]), list(map(str, range(10))))

    with pytest.raises(ValueError, match=rf"data\.class_weights {said}"):
        use()


def test_a_class_without_images_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="needs training images of each class, there is none of dog"):
        class_weights("balanced", torch.tensor([0, 0, 2]), ["cat", "dog", "cow"])


def test_images_of_several_classes_have_no_one_weight() -> None:
    data = MultiMNIST(data_dir="nowhere", absent="stand_in", class_weights="balanced")
    with pytest.raises(ValueError, match="weighs an image by its one class, and those of Multi-MNIST"):
        data.setup()
