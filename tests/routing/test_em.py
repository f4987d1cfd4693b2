"""EM routing against golden numbers and by its properties."""

import math

import pytest
import torch

from capsbench.routing import EMRouting
from capsbench.routing.em import Gaussians


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_golden_numbers(golden: dict[str, torch.Tensor], iterations: int) -> None:
    router = EMRouting(golden["votes"].shape[2], iterations)
    router.load_state_dict({"beta_a": golden["em_beta_a"], "beta_v": golden["em_beta_v"]})
    parents = router(golden["votes"], golden["child_activations"])
    torch.testing.assert_close(parents.poses, golden[f"em{iterations}_poses"], atol=1e-4, rtol=0)
    torch.testing.assert_close(parents.activations, golden[f"em{iterations}_activations"], atol=1e-4, rtol=0)


def test_e_step_is_the_posterior_of_a_gaussian_mixture() -> None:
    votes = torch.randn(2, 5, 3, 4)
    parents = Gaussians(torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1, torch.rand(2, 3))
    density = torch.distributions.Normal(parents.mean.unsqueeze(1), parents.variance.sqrt().unsqueeze(1))
    joint = parents.activation.unsqueeze(1) * density.log_prob(votes).sum(dim=-1).exp()
    torch.testing.assert_close(EMRouting(num_parents=2).e_step(votes, parents), joint / joint.sum(dim=2, keepdim=True))


def test_m_step_of_a_uniform_assignment_takes_the_weighted_mean_and_variance() -> None:
    votes, activations = torch.randn(2, 5, 3, 4), torch.rand(2, 5)
    parents = EMRouting(num_parents=3).m_step(votes, activations, None, iteration=0)
    weights = (activations / activations.sum(dim=1, keepdim=True))[..., None, None]
    mean = (weights * votes).sum(dim=1)
    torch.testing.assert_close(parents.mean, mean)
    torch.testing.assert_close(parents.variance, (weights * (votes - mean.unsqueeze(1)) ** 2).sum(dim=1))


def test_parameters_are_one_pair_per_parent() -> None:
    shapes = {name: tuple(p.shape) for name, p in EMRouting(num_parents=7).named_parameters()}
    assert shapes == {"beta_a": (7,), "beta_v": (7,)}


def test_beta_a_starts_as_in_fmrouting() -> None:
    torch.manual_seed(0)
    beta_a = EMRouting(num_parents=10_000).beta_a
    assert -2000 <= beta_a.min() < beta_a.max() <= 0
    assert beta_a.mean().item() == pytest.approx(-1000, abs=20)


def drawn(**means: float) -> EMRouting:
    torch.manual_seed(1)
    return EMRouting(num_parents=10, **means)


def test_initial_values_are_those_of_earlier_versions() -> None:
    router = drawn()
    torch.manual_seed(1)
    beta_a = torch.nn.init.trunc_normal_(torch.empty(10), mean=-1000.0, std=500.0, a=-2000.0, b=0.0)
    assert router.beta_a.equal(beta_a)
    assert router.beta_v.equal(torch.nn.init.normal_(torch.empty(10), std=math.sqrt(2 / 11)))


def test_means_of_initial_values_can_be_set() -> None:
    usual, moved = drawn(), drawn(beta_a=-3500.0, beta_v=1.3)
    torch.testing.assert_close(moved.beta_a, usual.beta_a - 2500, atol=1e-2, rtol=0)
    torch.testing.assert_close(moved.beta_v, usual.beta_v + 1.3)


@pytest.mark.parametrize("name", ["beta_a", "beta_v"])
def test_means_of_initial_values_are_finite(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number, got nan"):
        EMRouting(num_parents=3, **{name: math.nan})


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
    with pytest.raises(ValueError, match="this EMRouting was made for 3 parents, got 4"):
        EMRouting(num_parents=3)(torch.zeros(1, 8, 4, 4), torch.ones(1, 8))


def test_iterations_and_parents_must_be_positive() -> None:
    with pytest.raises(ValueError, match="iterations must be an integer of at least 1, got 0"):
        EMRouting(num_parents=3, iterations=0)
    with pytest.raises(ValueError, match="num_parents must be at least 1, got 0"):
        EMRouting(num_parents=0)
