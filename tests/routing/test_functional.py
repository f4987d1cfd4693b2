"""Squash and normalisation, also of the zero vector."""

import torch

from capsbench.routing import l2_normalize, squash, squashed_norm


def test_squash_is_its_formula() -> None:
    s = torch.randn(5, 8, dtype=torch.float64)
    norm = s.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(squash(s), norm**2 / (1 + norm**2) * s / norm)
    torch.testing.assert_close(squashed_norm(s), squash(s).norm(dim=-1))


def test_gradients_at_the_zero_vector_are_finite() -> None:
    for function in (squash, squashed_norm, l2_normalize):
        zeros = torch.zeros(3, 8, requires_grad=True)
        function(zeros).sum().backward()
        assert torch.isfinite(zeros.grad).all(), function.__name__


def test_normalize_keeps_direction_at_any_scale() -> None:
    vectors = torch.randn(4, 8)
    for scale in (1e-8, 1.0, 1e8):
        torch.testing.assert_close(l2_normalize(vectors * scale), l2_normalize(vectors))


def test_normalize_gives_zero_for_zero() -> None:
    assert l2_normalize(torch.zeros(2, 3)).eq(0).all()
