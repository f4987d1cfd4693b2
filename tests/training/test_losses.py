"""Losses against their formulas."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.training import CrossEntropyLoss, MarginLoss, SpreadLoss
from capsbench.training.losses import reconstruction_error, unordered_reconstruction_error

ACTIVATIONS = torch.tensor([[0.95, 0.3, 0.05], [0.2, 0.6, 0.1]])
LABELS = torch.tensor([0, 2])


def test_margin_loss_by_hand() -> None:
    first = 0.5 * (0.3 - 0.1) ** 2
    second = (0.9 - 0.1) ** 2 + 0.5 * ((0.2 - 0.1) ** 2 + (0.6 - 0.1) ** 2)
    assert MarginLoss()(ACTIVATIONS, LABELS).item() == pytest.approx((first + second) / 2)


def test_margin_loss_may_be_a_mean_over_classes() -> None:
    mean, total = MarginLoss(reduction="mean")(ACTIVATIONS, LABELS), MarginLoss()(ACTIVATIONS, LABELS)
    torch.testing.assert_close(mean, total / 3)


def test_other_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.reduction must be sum or mean, got 'max'"):
        MarginLoss(reduction="max")


def test_spread_loss_by_hand_at_both_ends() -> None:
    def expected(margin: float) -> float:
        gaps = [0.95 - 0.3, 0.95 - 0.05, 0.1 - 0.2, 0.1 - 0.6]
        return sum(max(0, margin - gap) ** 2 for gap in gaps) / 2

    loss = SpreadLoss(start=0.2, end=0.9)
    assert loss(ACTIVATIONS, LABELS, 0.0).item() == pytest.approx(expected(0.2))
    assert loss(ACTIVATIONS, LABELS, 1.0).item() == pytest.approx(expected(0.9))


def test_the_margin_grows_by_step_as_in_the_authors_code() -> None:
    golden = np.load(Path(__file__).parent.parent / "routing" / "systems.npz")
    steps, margins = golden["spread_steps"].tolist(), golden["spread_margins"]
    loss = SpreadLoss(0.2, 0.99, "sigmoid", steps=50_000)
    np.testing.assert_allclose([loss.margin(step=step) for step in steps], margins, atol=1e-8, rtol=0)
    of_the_run = SpreadLoss(0.2, 0.99, "sigmoid")
    found = [of_the_run.margin(progress=step / 1_000_000) for step in steps]
    np.testing.assert_allclose(found, margins, atol=1e-8, rtol=0)


def test_steps_of_a_linear_margin_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.steps has no effect with loss\.schedule=linear"):
        SpreadLoss(steps=10)


def test_cross_entropy_is_pytorchs() -> None:
    expected = torch.nn.functional.cross_entropy(ACTIVATIONS, LABELS)
    torch.testing.assert_close(CrossEntropyLoss()(ACTIVATIONS, LABELS), expected)


def test_normalized_cross_entropy_divides_by_the_sum() -> None:
    expected = -(torch.tensor(0.95 / 1.3).log() + torch.tensor(0.1 / 0.9).log()) / 2
    torch.testing.assert_close(CrossEntropyLoss(normalize=True)(ACTIVATIONS, LABELS), expected)


def test_cross_entropy_of_scaled_activations() -> None:
    expected = torch.nn.functional.cross_entropy(4 * ACTIVATIONS, LABELS)
    torch.testing.assert_close(CrossEntropyLoss(scale=4)(ACTIVATIONS, LABELS), expected)


def test_a_learned_scale_starts_from_1_and_has_a_gradient() -> None:
    loss = CrossEntropyLoss(scale="learned")
    value = loss(ACTIVATIONS, LABELS)
    assert value == CrossEntropyLoss()(ACTIVATIONS, LABELS)
    value.backward()
    shares = ACTIVATIONS.softmax(dim=1)
    by_hand = ((shares * ACTIVATIONS).sum(dim=1) - ACTIVATIONS[[0, 1], LABELS]).mean()
    torch.testing.assert_close(loss.scale.grad, by_hand)


@pytest.mark.parametrize("scale", [0, -1.0, True, "learnt", float("nan"), float("inf")])
def test_other_scales_are_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match=r"loss\.scale must be a positive number or learned, got"):
        CrossEntropyLoss(scale=scale)


@pytest.mark.parametrize("scale", [2.0, "learned"])
def test_a_scale_of_shares_has_no_effect_and_is_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match=r"loss\.scale has no effect with loss\.normalize=true"):
        CrossEntropyLoss(normalize=True, scale=scale)


def test_shares_are_clipped_as_keras_does() -> None:
    activations, right = torch.tensor([[5.0, -3.0, 0.0]]).double(), torch.tensor([0])
    loss = CrossEntropyLoss(normalize=True)
    assert loss(activations, right).item() == pytest.approx(-math.log1p(-1e-7), rel=1e-6)
    assert loss(activations, torch.tensor([1])).item() == pytest.approx(-math.log(1e-7))


def test_normalized_cross_entropy_of_nothing_is_finite() -> None:
    zeros = torch.zeros(2, 3, requires_grad=True)
    loss = CrossEntropyLoss(normalize=True)(zeros, LABELS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(zeros.grad).all()


@pytest.mark.parametrize("loss", [MarginLoss(), SpreadLoss(), CrossEntropyLoss(), CrossEntropyLoss(normalize=True)])
def test_more_active_right_class_costs_less(loss: torch.nn.Module) -> None:
    better = ACTIVATIONS.clone()
    better[1, 2] = 0.5
    assert loss(better, LABELS) < loss(ACTIVATIONS, LABELS)


def test_reconstruction_error_sums_over_pixels_and_images() -> None:
    targets = torch.zeros(3, 2, 1, 4, 4)
    assert reconstruction_error(targets + 0.5, targets) == pytest.approx(2 * 16 * 0.25)


def test_the_unordered_error_takes_each_examples_best_order() -> None:
    targets = torch.stack([torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)], dim=1)
    drawn = targets.clone()
    drawn[1] = drawn[1].flip(0)
    assert reconstruction_error(drawn, targets) == pytest.approx(16)
    assert unordered_reconstruction_error(drawn, targets) == 0
    drawn[0, 0] = 1.0
    assert unordered_reconstruction_error(drawn, targets) == pytest.approx(8)
