"""Self-attention routing against golden numbers and by its properties."""

import pytest
import torch
from torch import Tensor

from capsbench.routing import AttentionRouting, exp_squash


def test_golden_numbers(systems: dict[str, Tensor]) -> None:
    router = AttentionRouting(12, 5).double()
    router.prior.data = systems["attention_prior"]
    parents = router(systems["votes"])
    torch.testing.assert_close(parents.poses, systems["attention_poses"], atol=1e-8, rtol=0)
    torch.testing.assert_close(parents.activations, systems["attention_activations"], atol=1e-8, rtol=0)
    narrow = router.float()(systems["votes"].float())
    torch.testing.assert_close(narrow.poses.double(), systems["attention_poses"], atol=1e-4, rtol=0)


def test_the_activation_is_the_length_of_the_pose() -> None:
    parents = AttentionRouting(7, 3)(torch.randn(2, 7, 3, 4))
    torch.testing.assert_close(parents.activations, parents.poses.norm(dim=-1))


def test_the_prior_is_added_after_the_softmax() -> None:
    votes = torch.zeros(1, 2, 2, 1)
    votes[0, 0] = 1.0
    router = AttentionRouting(2, 2)
    shared = torch.tensor([[[0.5], [0.5]]])
    torch.testing.assert_close(router(votes).poses, exp_squash(shared))
    router.prior.data[0, 0] = 2.0
    torch.testing.assert_close(router(votes).poses[:, 0], exp_squash(shared[:, 0] + 2.0))


def test_votes_of_another_place_are_refused() -> None:
    with pytest.raises(ValueError, match="made for 7 children and 3 parents, got 6 children and 3 parents"):
        AttentionRouting(7, 3)(torch.randn(2, 6, 3, 4))


def test_exp_squash_keeps_short_vectors_and_shortens_long_ones() -> None:
    short = torch.tensor([1e-5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(exp_squash(short), short, rtol=1e-5, atol=0)
    assert exp_squash(torch.tensor([3.0, 4.0])).norm() == pytest.approx(0.9932621)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(exp_squash, zero)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64))
