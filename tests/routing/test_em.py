"""EM routing beyond its goldens."""

import pytest
import torch

from capsbench.routing import EMRouting


def test_parameters_are_one_pair_per_parent() -> None:
    shapes = {name: tuple(p.shape) for name, p in EMRouting(num_parents=7).named_parameters()}
    assert shapes == {"beta_a": (7,), "beta_v": (7,)}


def test_beta_a_starts_as_the_paper_says() -> None:
    torch.manual_seed(0)
    beta_a = EMRouting(num_parents=10_000).beta_a
    assert -2000 <= beta_a.min() < beta_a.max() <= 0
    assert beta_a.mean().item() == pytest.approx(-1000, abs=20)


def test_children_that_are_off_do_not_count() -> None:
    router = EMRouting(num_parents=3)
    votes = torch.randn(1, 8, 3, 4)
    activations = torch.ones(1, 8)
    activations[:, 5:] = 0
    other = votes.clone()
    other[:, 5:] = 100
    torch.testing.assert_close(router(votes, activations).poses, router(other, activations).poses)


def test_activations_are_needed() -> None:
    with pytest.raises(ValueError, match="EM routing weighs children by their activations"):
        EMRouting(num_parents=3)(torch.zeros(1, 8, 3, 4))


def test_votes_for_another_number_of_parents() -> None:
    with pytest.raises(ValueError, match="votes are for 4 parents, this router was built for 3"):
        EMRouting(num_parents=3)(torch.zeros(1, 8, 4, 4), torch.ones(1, 8))


def test_iterations_and_parents_must_be_positive() -> None:
    with pytest.raises(ValueError, match="iterations must be an integer of at least 1, got 0"):
        EMRouting(num_parents=3, iterations=0)
    with pytest.raises(ValueError, match="num_parents must be at least 1, got 0"):
        EMRouting(num_parents=0)
