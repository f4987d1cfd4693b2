"""Lazy votes a block of children at a time: the same numbers as all votes at once."""

from functools import partial

import pytest
import torch
from torch import Tensor

from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    InvertedAttention,
    LazyVotes,
    RouterFactory,
    VBRouting,
    sum_over_children,
)
from capsbench.routing.kernels import blocks

ROUTERS = {
    "fm": FMAgreement,
    "dynamic": DynamicRouting,
    "leaky": partial(DynamicRouting, leaky=True),
    "em": partial(EMRouting, num_parents=5),
    "attention": partial(AttentionRouting, num_children=7, num_parents=5),
    "inverted attention": partial(InvertedAttention, pose_dim=16),
    "vb": partial(VBRouting, num_parents=5),
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", 3000)


def lazy_votes(batch: int, num_children: int) -> LazyVotes:
    generator = torch.Generator().manual_seed(0)
    children = torch.randn(batch, num_children, 1, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(num_children, 5, 4, 1, 16, generator=generator, dtype=torch.float64).requires_grad_()
    return LazyVotes(children, weight, keep_lazy=True)


def weighted(votes: Tensor, weights: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    return (weights[..., None, None] * votes).sum(dim=1), (votes - centre.unsqueeze(1)).square().sum(dim=(1, 3))


@pytest.mark.parametrize("num_children", [1, 2, 7])  # a block holds two
def test_sums_and_gradients_are_those_of_all_votes_at_once(num_children: int) -> None:
    votes = lazy_votes(2, num_children)
    weights = torch.rand(2, num_children, dtype=torch.float64, requires_grad=True)
    centre = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    ours = sum_over_children(weighted, votes, per_child=(weights,), shared=(centre,))
    theirs = weighted(votes.materialize(), weights, centre)
    torch.testing.assert_close(ours, theirs)
    inputs = (votes.children, votes.weight, weights, centre)
    gradients = (torch.autograd.grad(sum(part.sin().sum() for part in sums), inputs) for sums in (ours, theirs))
    torch.testing.assert_close(*gradients)


def test_inputs_without_gradients_get_none() -> None:
    votes = lazy_votes(2, 7)
    votes.weight.requires_grad_(False)
    weights, centre = torch.rand(2, 7, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    total, _ = sum_over_children(weighted, votes, per_child=(weights,), shared=(centre,))
    total.sum().backward()
    assert votes.children.grad is not None
    assert votes.weight.grad is weights.grad is centre.grad is None


@pytest.mark.parametrize("router", ROUTERS.values(), ids=ROUTERS.keys())
def test_second_derivatives_are_those_of_votes_in_memory(router: RouterFactory) -> None:
    votes, activations, made = lazy_votes(2, 7), torch.rand(2, 7, dtype=torch.float64), router().double()
    found = []
    for given in (votes, votes.materialize()):
        total = made(given, activations).activations.square().sum()
        (slope,) = torch.autograd.grad(total, votes.children, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), (votes.children, votes.weight)))
    torch.testing.assert_close(*found)
