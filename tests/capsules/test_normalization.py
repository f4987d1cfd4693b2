"""Batch normalisation of votes."""

import re

import pytest
import torch

from capsbench.capsules import VoteNorm, VoteNormKind, batch_norm_1d, batch_norm_2d


def test_constants_are_those_of_the_papers_code() -> None:
    for norm in (batch_norm_1d(3), batch_norm_2d(3)):
        assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_vote_gain_must_be_positive() -> None:
    with pytest.raises(ValueError, match="vote_gain must be positive, got 0"):
        VoteNorm(6, 3, 16, "shared", gain=0.0)


def test_a_norm_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="vote_norm must be shared, per_vote or none, got 'none'"):
        VoteNorm(6, 3, 16, "none", gain=1.0)


def test_shared_norm_makes_each_dimension_standard() -> None:
    votes = 3 + 5 * torch.randn(32, 6, 3, 16)
    normed = VoteNorm(6, 3, 16, "shared", gain=0.25)(votes)
    assert normed.shape == votes.shape
    torch.testing.assert_close(normed.mean(dim=(0, 1, 2)), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.std(dim=(0, 1, 2)), torch.full((16,), 0.25), atol=1e-3, rtol=0)


def test_per_vote_norm_makes_each_vote_standard() -> None:
    votes = torch.randn(64, 6, 3, 16) * torch.rand(6, 3, 16).add(1) + torch.randn(6, 3, 16)
    normed = VoteNorm(6, 3, 16, "per_vote", gain=1.0)(votes)
    torch.testing.assert_close(normed.mean(dim=0), torch.zeros(6, 3, 16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["shared", "per_vote"])
@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (2, 3, 6, 4), (2, 6, 4, 3)])
def test_votes_of_another_shape_are_refused(kind: VoteNormKind, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"votes \(batch, 6, 3, 4\), got {re.escape(str(shape))}"):
        VoteNorm(6, 3, 4, kind, gain=1.0)(torch.randn(shape))
