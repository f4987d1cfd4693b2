"""The centripetal loss against golden numbers and by its properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from capsbench.training import CentripetalLoss


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "routing" / "systems.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays if name.startswith("hit_")}


@pytest.mark.parametrize(("ghosts", "name"), [(False, "hit_losses"), (True, "hit_losses_ghosts")])
def test_golden_numbers(golden: dict[str, Tensor], ghosts: bool, name: str) -> None:
    loss = CentripetalLoss(ghosts=ghosts)
    costs = loss.costs(golden["hit_activations"], golden["hit_labels"])
    torch.testing.assert_close(costs, golden[name], atol=1e-8, rtol=0)
    mean = loss(golden["hit_activations"], golden["hit_labels"])
    torch.testing.assert_close(mean, golden[name].sum(dim=1).mean())


def test_golden_curves(golden: dict[str, Tensor]) -> None:
    loss = CentripetalLoss()
    distance = golden["hit_curve_distance"]
    torch.testing.assert_close(loss.rings(distance - 0.1), golden["hit_curve_hit"], atol=1e-8, rtol=0)
    torch.testing.assert_close(loss.rings(0.9 - distance), golden["hit_curve_miss"], atol=1e-8, rtol=0)


def test_the_slope_grows_from_ring_to_ring() -> None:
    beyond = torch.tensor([0.05, 0.15, 0.25, -0.1], requires_grad=True)
    (slope,) = torch.autograd.grad(CentripetalLoss().rings(beyond).sum(), beyond)
    torch.testing.assert_close(slope, torch.tensor([0.2, 0.4, 0.6, 0.0]))


def test_an_image_may_have_two_classes() -> None:
    costs = CentripetalLoss().costs(torch.ones(1, 3), torch.tensor([[0, 2]]))
    torch.testing.assert_close(costs, torch.tensor([[0.0, 0.45, 0.0]]))


def test_a_ring_has_a_width() -> None:
    with pytest.raises(ValueError, match=r"loss\.ring must be positive, got 0"):
        CentripetalLoss(ring=0.0)
