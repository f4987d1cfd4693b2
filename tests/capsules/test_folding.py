"""Batch normalisation folded into the weights of lazy votes: the same as normalising votes."""

from copy import deepcopy

import pytest
import torch

from capsbench.capsules import VoteNorm, VoteNormKind
from capsbench.capsules.folding import can_fold, fold
from capsbench.routing import LazyVotes


def lazy_votes(batch: int = 4) -> LazyVotes:
    generator = torch.Generator().manual_seed(0)
    children = torch.randn(batch, 7, 2, 5, generator=generator, dtype=torch.float64)
    return LazyVotes(children, torch.randn(7, 3, 5, 2, 4, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", ["shared", "per_vote"])
def test_same_votes_and_statistics_as_normalising_them(kind: VoteNormKind, training: bool) -> None:
    norm, votes = VoteNorm(7, 3, 8, kind, gain=0.5, momentum=0.1).double(), lazy_votes()
    norm(3 + 2 * votes.materialize())  # so that running statistics are no longer 0 and 1
    torch.nn.init.normal_(norm.norm.bias)
    norm.train(training)
    folding = deepcopy(norm)
    torch.testing.assert_close(fold(folding, votes).materialize(), norm(votes.materialize()))
    torch.testing.assert_close(folding.state_dict(), norm.state_dict())


@pytest.mark.parametrize("training", [True, False], ids=["trained alone", "frozen alone"])
def test_the_batch_norm_within_decides_whether_statistics_are_those_of_the_batch(training: bool) -> None:
    norm, votes = VoteNorm(7, 3, 8, "shared", gain=0.5).double().train(not training), lazy_votes()
    norm.norm.train(training)
    folding = deepcopy(norm)
    torch.testing.assert_close(fold(folding, votes).materialize(), norm(votes.materialize()))
    torch.testing.assert_close(folding.state_dict(), norm.state_dict())
    assert norm(votes.materialize()[:0]).shape == fold(folding, lazy_votes(batch=0)).shape
    assert can_fold(torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)) is not training


def test_votes_that_must_stay_lazy_do() -> None:
    votes = lazy_votes()
    votes.keep_lazy = True
    assert fold(VoteNorm(7, 3, 8, "shared", gain=1.0).double(), votes).keep_lazy


def test_one_vote_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than one example"):
        fold(VoteNorm(7, 3, 8, "per_vote", gain=1.0).double(), lazy_votes(batch=1))


def test_training_on_several_devices_cannot_fold() -> None:
    norm = VoteNorm(7, 3, 8, "shared", gain=1.0)
    assert can_fold(norm)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    assert not can_fold(synchronised)
    assert can_fold(synchronised.eval())
