"""Lazy votes a block of children at a time: the same numbers as all votes at once."""

from functools import partial

import pytest
import torch
from torch import Tensor

from capsbench.routing import (
    AttentionRouting,
    Capsules,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    InvertedAttention,
    LazyVotes,
    Router,
    RouterFactory,
    VBRouting,
    sum_over_children,
)
from capsbench.routing.kernels import blocks

ROUTERS: dict[str, RouterFactory] = {
    "fm": FMAgreement,
    "dynamic": DynamicRouting,
    "leaky": partial(DynamicRouting, leaky=True),
    "detached": partial(DynamicRouting, detach=True),
    "fm of whole votes": partial(FMAgreement, normalize_votes=False),
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


def outcome(
    router: Router, votes: LazyVotes, activations: Tensor, *, all_at_once: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Parents, and the first and second derivatives by children, weights, activations and the router's parameters."""
    inputs = [votes.children, votes.weight, activations]
    inputs += [parameter for parameter in router.parameters() if parameter.requires_grad]

    def route() -> Capsules:
        lazy = LazyVotes(votes.children, votes.weight, keep_lazy=True)
        return router(lazy.materialize() if all_at_once else lazy, activations)

    parents = route()
    loss = parents.poses.sin().sum() + parents.activations.cos().sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
    used = [gradient for gradient in first if gradient is not None]
    second = torch.autograd.grad([gradient.sin().sum() for gradient in used], inputs, allow_unused=True)
    once = torch.autograd.grad(route().poses.sin().sum(), inputs, allow_unused=True)
    return tuple(parents), (*first, *once), second


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("name", ROUTERS)
def test_parents_and_both_derivatives_are_those_of_all_votes_at_once(name: str, rows: int) -> None:
    torch.manual_seed(0)
    children = torch.randn(3, 7, rows, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, 4, rows, 16 // rows, dtype=torch.float64, requires_grad=True)
    activations = torch.rand(3, 7, dtype=torch.float64, requires_grad=True)
    router = ROUTERS[name]().double()
    votes = LazyVotes(children, weight, keep_lazy=True)
    ours, theirs = (outcome(router, votes, activations, all_at_once=each) for each in (False, True))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ROUTERS)
def test_gradients_that_are_computed_together_are_those_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    votes, router = lazy_votes(2, 7), ROUTERS[name]().double()
    active = router(votes, torch.rand(2, 7, dtype=torch.float64)).activations
    seeds = torch.randn(3, *active.shape, dtype=torch.float64)
    sources = (votes.children, votes.weight, *(p for p in router.parameters() if p.requires_grad))
    together = torch.autograd.grad(active, sources, seeds, retain_graph=True, is_grads_batched=True, allow_unused=True)
    for number, seed in enumerate(seeds):
        alone = torch.autograd.grad(active, sources, seed, retain_graph=True, allow_unused=True)
        torch.testing.assert_close(tuple(None if found is None else found[number] for found in together), alone)


def test_a_contribution_that_no_gradient_flows_through_adds_none() -> None:
    votes, centre = lazy_votes(2, 7), torch.randn(2, 5, 16, dtype=torch.float64)
    (total,) = sum_over_children(
        lambda votes, centre: ((votes.detach() * centre.unsqueeze(1)).sum(1),), votes, shared=(centre,)
    )
    (total.sum() + votes.children.sum()).backward()
    torch.testing.assert_close(votes.children.grad, torch.ones_like(votes.children))
    assert not votes.weight.grad.any()
