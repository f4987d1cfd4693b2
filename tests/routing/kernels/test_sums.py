"""Sums over children: the same whatever computes them."""

import pytest
import torch
from torch import Tensor

from capsbench.routing import LazyVotes, sum_over_children, vote_sums
from capsbench.routing.kernels import sums


def lazy_votes(keep_lazy: bool = False) -> LazyVotes:
    generator = torch.Generator().manual_seed(0)
    children = torch.randn(2, 7, 1, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 3, 5, 1, 4, generator=generator, dtype=torch.float64)
    return LazyVotes(children, weight, keep_lazy)


@pytest.mark.parametrize("keep_lazy", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_vote_sums_of_lazy_votes_are_those_of_all_votes(normalize: bool, keep_lazy: bool) -> None:
    votes = lazy_votes(keep_lazy)
    dense = votes.materialize()
    unit = dense / dense.norm(dim=-1, keepdim=True) if normalize else dense
    for given in (votes, dense):
        total, squares = vote_sums(given, normalize)
        torch.testing.assert_close(total, unit.sum(dim=1))
        torch.testing.assert_close(squares, unit.square().sum(dim=1))


def calls(votes: LazyVotes) -> int:
    """How many blocks the votes are computed in."""
    seen = []

    def contribution(votes: Tensor) -> tuple[Tensor]:
        seen.append(votes.shape)
        return (votes.sum(dim=1),)

    sum_over_children(contribution, votes)
    return len(seen)


def test_few_votes_are_computed_at_once_and_many_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from capsbench.routing.kernels import blocks

    votes = lazy_votes()
    monkeypatch.setitem(blocks.BLOCK_BYTES, "cpu", votes.num_bytes // 7 * 2)  # two children
    assert calls(votes) == 1
    assert calls(lazy_votes(keep_lazy=True)) == 4
    monkeypatch.setitem(sums.FEW_BYTES, "cpu", votes.num_bytes - 1)
    assert calls(votes) == 4
