"""Hit-or-miss against golden numbers and by its properties."""

import torch
from torch import Tensor

from capsbench.routing import HitOrMiss
from capsbench.routing.hit_or_miss import hit_activation


def test_golden_activations(systems: dict[str, Tensor]) -> None:
    found = hit_activation(systems["hit_capsules"])
    torch.testing.assert_close(found, systems["hit_activations"], atol=1e-8, rtol=0)
    torch.testing.assert_close(2 * (1 - found), systems["hit_distances"], atol=1e-8, rtol=0)


def test_poses_fill_the_cube_and_votes_are_only_summed() -> None:
    votes = 100 * torch.randn(64, 7, 3, 4)
    poses, activations = HitOrMiss(3, 4)(votes)
    assert poses.min() < 0.2
    assert poses.max() > 0.8
    torch.testing.assert_close(poses.logit().mean(dim=0), torch.zeros(3, 4), atol=1e-5, rtol=0)
    alone = votes.sum(dim=1, keepdim=True)
    torch.testing.assert_close(HitOrMiss(3, 4)(alone).activations, activations)


def test_the_gradient_at_the_centre_is_zero() -> None:
    centre = torch.full((1, 2), 0.5, requires_grad=True)
    hit_activation(centre).sum().backward()
    assert centre.grad.tolist() == [[0.0, 0.0]]
