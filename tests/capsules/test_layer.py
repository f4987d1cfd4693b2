"""The capsule layer: transform, vote normalisation and router in one."""

from functools import partial

import pytest
import torch

from capsbench.capsules import CapsuleLayer, Capsules, FullTransform, MatrixTransform, VoteNorm
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement, Router


def children(n: int = 6, dim: int = 16) -> Capsules:
    return Capsules(torch.randn(4, n, dim), torch.rand(4, n))


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
@pytest.mark.parametrize("vote_norm", ["none", "shared", "per_vote"])
def test_children_to_parents(router: type[Router], vote_norm: str) -> None:
    layer = CapsuleLayer(MatrixTransform(6, 3, 16), router, vote_norm=vote_norm)
    parents = layer(children())
    assert parents.poses.shape == (4, 3, 16)
    assert parents.activations.shape == (4, 3)


def test_router_gets_what_its_constructor_names() -> None:
    layer = CapsuleLayer(MatrixTransform(6, 3, 16), partial(EMRouting, iterations=2))
    assert layer.router.beta_a.shape == (3,)
    assert layer.router.iterations == 2


def test_fm_hands_s_to_another_capsule_layer_and_a_unit_pose_to_a_decoder() -> None:
    last = CapsuleLayer(MatrixTransform(6, 3, 16), FMAgreement)
    hidden = CapsuleLayer(MatrixTransform(6, 3, 16), FMAgreement, feeds_capsules=True)
    hidden.load_state_dict(last.state_dict())
    given = children()
    torch.testing.assert_close(last(given).poses.norm(dim=-1), torch.ones(4, 3))
    torch.testing.assert_close(hidden(given).poses.sum(dim=-1), last(given).activations)


def test_a_router_may_be_asked_for_s_everywhere() -> None:
    layer = CapsuleLayer(MatrixTransform(6, 3, 16), partial(FMAgreement, normalize_pose=False))
    assert not layer.router.normalize_pose


@pytest.mark.parametrize(("router", "gain"), [(FMAgreement, 1.0), (DynamicRouting, 0.25), (EMRouting, 1.0)])
def test_vote_gain_is_the_routers_unless_it_is_given(router: type[Router], gain: float) -> None:
    def gamma(**options: float) -> torch.Tensor:
        return CapsuleLayer(MatrixTransform(6, 3, 16), router, vote_norm="shared", **options).vote_norm.norm.weight

    torch.testing.assert_close(gamma(), torch.full((16,), gain))
    torch.testing.assert_close(gamma(vote_gain=0.5), torch.full((16,), 0.5))


def test_vote_gain_must_be_positive() -> None:
    with pytest.raises(ValueError, match="vote_gain must be positive, got 0"):
        CapsuleLayer(MatrixTransform(6, 3, 16), FMAgreement, vote_norm="shared", vote_gain=0.0)


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


def test_full_transform_has_no_square_to_keep() -> None:
    layer = CapsuleLayer(FullTransform(6, 3, 8, 12), FMAgreement)
    assert layer(children(dim=8)).poses.shape == (4, 3, 12)
