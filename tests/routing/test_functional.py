"""Squash and normalisation, also of the zero vector."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from capsbench.routing import LazyVotes, exp_squash, exp_squashed_norm, l2_normalize, squash, squashed_norm, vote_sums
from capsbench.routing.hit_or_miss import hit_activation


def test_squash_is_its_formula() -> None:
    s = torch.randn(5, 8, dtype=torch.float64)
    norm = s.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(squash(s), norm**2 / (1 + norm**2) * s / norm)
    torch.testing.assert_close(squashed_norm(s), squash(s).norm(dim=-1))


FUNCTIONS = [squash, squashed_norm, exp_squash, exp_squashed_norm, l2_normalize, hit_activation]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_derivatives_at_the_zero_vector_are_finite(function: Callable[[Tensor], Tensor]) -> None:
    centre = 0.5 if function is hit_activation else 0.0
    vectors = torch.full((2, 8), centre, dtype=torch.float64)
    vectors[1] += torch.randn(8, dtype=torch.float64)
    vectors.requires_grad_()
    found = function(vectors)
    assert torch.isfinite(found).all()
    (first,) = torch.autograd.grad(found.exp().sum(), vectors, create_graph=True)
    assert torch.isfinite(first).all()
    (second,) = torch.autograd.grad(first.square().sum(), vectors)
    assert torch.isfinite(second).all()
    assert torch.autograd.gradgradcheck(function, vectors[1:].detach().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_sixteen_bits_are_computed_in_32(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    vectors = torch.tensor([[300.0, 0.0], [0.0, 0.0], [0.5, 0.5], [3.0, 4.0], [1e-4, 1e-4]]).to(dtype)
    found = function(vectors)
    assert found.dtype == dtype
    torch.testing.assert_close(found, function(vectors.float()).to(dtype), rtol=0, atol=0)


def test_squash_of_a_long_vector_of_sixteen_bits_is_its_direction() -> None:
    torch.testing.assert_close(squash(torch.tensor([300.0, 0.0]).half()), torch.tensor([1.0, 0.0]).half())


def test_normalize_keeps_direction_at_any_scale() -> None:
    vectors = torch.randn(4, 8)
    for scale in (1e-8, 1.0, 1e8):
        torch.testing.assert_close(l2_normalize(vectors * scale), l2_normalize(vectors))


def test_normalize_gives_zero_for_zero() -> None:
    assert l2_normalize(torch.zeros(2, 3)).eq(0).all()


@pytest.mark.parametrize("keep_lazy", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_votes_of_sixteen_bits_are_summed_in_32(normalize: bool, keep_lazy: bool) -> None:
    children, weight = 10 * torch.randn(2, 30, 1, 4).half(), 10 * torch.randn(30, 2, 4, 1, 4).half()
    children[:, 0] = 0  # votes of no length
    found = vote_sums(LazyVotes(children, weight, keep_lazy), normalize)
    expected = vote_sums(LazyVotes(children.float(), weight.float(), keep_lazy).materialize(), normalize)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.half())
