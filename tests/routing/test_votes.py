"""Votes that are computed only where they are needed."""

import pytest
import torch

from capsbench.routing import LazyVotes


@pytest.fixture
def votes() -> LazyVotes:
    generator = torch.Generator().manual_seed(0)
    children = torch.randn(2, 7, 4, 5, generator=generator)
    return LazyVotes(children, torch.randn(7, 3, 5, 4, 6, generator=generator))


def test_a_vote_is_its_child_times_its_weight_row_by_row(votes: LazyVotes) -> None:
    assert votes.shape == votes.materialize().shape == (2, 7, 3, 24)
    for row in range(4):
        expected = votes.children[1, 6, row] @ votes.weight[6, 2, :, row]
        torch.testing.assert_close(votes.materialize()[1, 6, 2].view(4, 6)[row], expected)


def test_sum_is_that_of_all_votes(votes: LazyVotes) -> None:
    torch.testing.assert_close(votes.sum(dim=1), votes.materialize().sum(dim=1))


def test_all_votes_are_computed_once(votes: LazyVotes) -> None:
    assert votes.materialize() is votes.materialize()


def test_another_type_changes_nothing_else(votes: LazyVotes) -> None:
    lazy = LazyVotes(votes.children, votes.weight, keep_lazy=True).to(torch.float64)
    assert lazy.dtype == lazy.materialize().dtype == torch.float64
    assert lazy.keep_lazy
    torch.testing.assert_close(lazy.materialize().float(), votes.materialize())


def test_bytes_are_those_of_all_votes(votes: LazyVotes) -> None:
    assert votes.num_bytes == votes.materialize().nbytes


def test_votes_computed_without_a_gradient_are_computed_again_where_it_is_wanted(votes: LazyVotes) -> None:
    votes.weight.requires_grad_()
    with torch.no_grad():
        first = votes.materialize()
        assert votes.materialize() is first
    votes.materialize().sum().backward()
    assert votes.weight.grad is not None
    with torch.no_grad():
        assert votes.materialize().equal(first)
