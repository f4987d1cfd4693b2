"""FM agreement against Algorithm 1 taken literally."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from capsbench.routing import FMAgreement, LazyVotes


def test_golden_numbers(golden: dict[str, torch.Tensor]) -> None:
    parents = FMAgreement()(golden["votes"])
    s = FMAgreement(feeds_capsules=True)(golden["votes"]).poses
    for ours, name in ((parents.poses, "fm_poses"), (parents.activations, "fm_activations"), (s, "fm_s")):
        torch.testing.assert_close(ours.double(), golden[name].double(), atol=1e-5, rtol=0)


def literal(votes: torch.Tensor, scale: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """The double loop over pairs, for one parent's unit votes (n, dim): s and its sum."""
    s = torch.zeros_like(votes[0])
    for first, second in itertools.combinations(votes, 2):
        s = s + first * second
    s = s * (2 * scale / len(votes))
    return s, s.sum()


@st.composite
def vote_tensors(draw: st.DrawFn) -> torch.Tensor:
    """Votes in float64 of any shape and scale; some all equal, some with zero vectors among them."""
    batch, children, parents, dim = (draw(st.integers(1, most)) for most in (3, 9, 4, 17))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    votes = torch.randn(batch, children, parents, dim, generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["random", "all equal", "some zero", "all zero"]))
    if kind == "all equal":
        votes = votes[:, :1].expand_as(votes).clone()
    elif kind == "some zero":
        votes[:, ::2] = 0
    elif kind == "all zero":
        votes.zero_()
    return votes * 10.0 ** draw(st.integers(-6, 6))


@settings(deadline=None)
@given(votes=vote_tensors())
def test_linear_form_is_the_sum_over_pairs(votes: torch.Tensor) -> None:
    parents = FMAgreement(normalize_pose=False)(votes)
    unit = torch.nn.functional.normalize(votes, dim=-1)
    for example, parent in itertools.product(range(votes.shape[0]), range(votes.shape[2])):
        s, activation = literal(unit[example, :, parent])
        torch.testing.assert_close(parents.poses[example, parent], s, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(parents.activations[example, parent], activation, atol=1e-12, rtol=1e-9)


@settings(deadline=None)
@given(votes=vote_tensors())
def test_activation_bounds(votes: torch.Tensor) -> None:
    activations = FMAgreement()(votes).activations
    assert (activations >= -0.5 - 1e-9).all()
    assert (activations <= (votes.shape[1] - 1) / 2 + 1e-9).all()


@settings(deadline=None)
@given(votes=vote_tensors())
def test_poses_are_unit_vectors_or_zero(votes: torch.Tensor) -> None:
    lengths = FMAgreement()(votes).poses.norm(dim=-1)
    assert ((lengths - 1).abs().lt(1e-9) | lengths.eq(0)).all()


def test_full_agreement_reaches_the_upper_bound() -> None:
    one_vote = torch.randn(1, 1, 3, 16)
    activations = FMAgreement()(one_vote.expand(1, 20, 3, 16)).activations
    torch.testing.assert_close(activations, torch.full((1, 3), 19 / 2))


def test_opposite_votes_reach_the_lower_bound() -> None:
    vote = torch.randn(1, 1, 1, 16)
    activations = FMAgreement()(torch.cat([vote, -vote], dim=1)).activations
    torch.testing.assert_close(activations, torch.full((1, 1), -0.5))


def test_a_single_child_agrees_with_nobody() -> None:
    parents = FMAgreement()(torch.tensor([[[[3.0, 4.0, 0.0]]]]))
    assert parents.poses.tolist() == [[[0.0, 0.0, 0.0]]]
    assert parents.activations.tolist() == [[0.0]]


def test_gradient_of_the_activation_is_equation_7() -> None:
    votes = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    FMAgreement(normalize_votes=False)(votes).activations.sum().backward()
    expected = (votes.sum(dim=1, keepdim=True) - votes).detach() / 5
    torch.testing.assert_close(votes.grad, expected)


def test_scale_multiplies_s() -> None:
    votes = torch.randn(2, 5, 3, 4)
    half, whole = FMAgreement(scale=0.5)(votes), FMAgreement(scale=1.0)(votes)
    torch.testing.assert_close(whole.activations, 2 * half.activations)
    torch.testing.assert_close(whole.poses, half.poses)


@settings(deadline=None)
@given(votes=vote_tensors(), scale=st.sampled_from([0.5, 1.0]))
def test_squashed_output(votes: torch.Tensor, scale: float) -> None:
    parents = FMAgreement(scale, normalize_pose=False, output="squash")(votes)
    unit = torch.nn.functional.normalize(votes, dim=-1)
    s = scale / votes.shape[1] * (unit.sum(dim=1).square() - unit.square().sum(dim=1))
    squared = s.square().sum(dim=-1)
    torch.testing.assert_close(parents.activations, squared / (1 + squared), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(parents.poses, s * (squared.sqrt() / (1 + squared)).unsqueeze(-1), atol=1e-12, rtol=1e-9)


def test_squashed_output_reads_lazy_votes() -> None:
    votes = LazyVotes(torch.randn(2, 5, 4, 4).double(), torch.randn(5, 3, 4, 4, 4).double(), keep_lazy=True)
    router = FMAgreement(normalize_pose=False, output="squash")
    for lazy, plain in zip(router(votes), router(votes.materialize()), strict=True):
        torch.testing.assert_close(lazy, plain)


def test_a_setting_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="set normalize_pose=False"):
        FMAgreement(output="squash")


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"^scale must be positive, got 0.0"):
        FMAgreement(scale=0.0)


def test_poses_for_another_capsule_layer_are_s_whatever_normalize_pose_is() -> None:
    votes = torch.randn(2, 5, 3, 4)
    s = FMAgreement(normalize_pose=False)(votes).poses
    assert FMAgreement(feeds_capsules=True)(votes).poses.equal(s)
    assert FMAgreement(feeds_capsules=True, normalize_pose=False)(votes).poses.equal(s)
    assert FMAgreement(feeds_capsules=True, normalize_pose=False, output="squash")(votes).poses.equal(s)
