"""What every router promises, and how it is made."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from capsbench.routing import (
    AttentionRouting,
    Capsules,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    NonFiniteError,
    Router,
    VBRouting,
    make_router,
)

BATCH, CHILDREN, PARENTS, DIM = 2, 7, 3, 4

MAKERS: dict[str, Callable[[], Router]] = {
    "fm": FMAgreement,
    "fm, s as pose": lambda: FMAgreement(feeds_capsules=True),
    "fm, votes as they are": lambda: FMAgreement(normalize_votes=False),
    "dynamic 1": lambda: DynamicRouting(1),
    "dynamic 3": lambda: DynamicRouting(3),
    "dynamic 3, detached": lambda: DynamicRouting(3, detach=True),
    "dynamic 3, leaky": lambda: DynamicRouting(3, leaky=True),
    "dynamic 3, biased": lambda: DynamicRouting(3, bias=True, num_parents=PARENTS, pose_dim=DIM),
    "em 1": lambda: EMRouting(PARENTS, 1),
    "em 3": lambda: EMRouting(PARENTS, 3),
    "attention": lambda: AttentionRouting(CHILDREN, PARENTS),
    "inverted attention 1": lambda: InvertedAttention(DIM, iterations=1),
    "inverted attention 3": lambda: InvertedAttention(DIM, iterations=3),
    "inverted attention, feeds capsules": lambda: InvertedAttention(DIM, feeds_capsules=True),
    "vb 1": lambda: VBRouting(PARENTS, 1),
    "vb 3": lambda: VBRouting(PARENTS, 3),
    "hit or miss": lambda: HitOrMiss(PARENTS, DIM),
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def router(request: pytest.FixtureRequest) -> Router:
    torch.manual_seed(0)
    return request.param()


@pytest.fixture
def votes() -> torch.Tensor:
    return torch.randn(BATCH, CHILDREN, PARENTS, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def activations() -> torch.Tensor:
    return torch.rand(BATCH, CHILDREN, generator=torch.Generator().manual_seed(2))


def test_shapes(router: Router, votes: torch.Tensor, activations: torch.Tensor) -> None:
    parents = router(votes, activations)
    assert isinstance(parents, Capsules)
    assert parents.poses.shape == (BATCH, PARENTS, DIM)
    assert parents.activations.shape == (BATCH, PARENTS)


def test_the_order_of_children_does_not_matter(router: Router, votes: torch.Tensor, activations: torch.Tensor) -> None:
    order = torch.randperm(CHILDREN, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(router(votes[:, order], activations[:, order]), router(votes, activations))


def test_examples_do_not_see_each_other_in_evaluation(
    router: Router, votes: torch.Tensor, activations: torch.Tensor
) -> None:
    router.eval()
    alone = router(votes[:1], activations[:1])
    together = router(votes, activations)
    torch.testing.assert_close(alone.poses, together.poses[:1])
    torch.testing.assert_close(alone.activations, together.activations[:1])


def test_gradients_are_right(router: Router, votes: torch.Tensor, activations: torch.Tensor) -> None:
    if getattr(router, "detach", False):
        pytest.skip("a detached gradient is meant to be another one")
    inputs = (votes.double().requires_grad_(), activations.double().requires_grad_())
    assert torch.autograd.gradcheck(router.double(), inputs, fast_mode=True)


@pytest.mark.parametrize("kind", ["zero", "all equal", "tiny", "huge", "one child"])
def test_stays_finite(router: Router, votes: torch.Tensor, activations: torch.Tensor, kind: str) -> None:
    votes = {
        "zero": torch.zeros_like(votes),
        "all equal": torch.ones_like(votes),
        "tiny": votes * 1e-12,
        "huge": votes * 1e6,
        "one child": votes[:, :1],
    }[kind].requires_grad_()
    if kind == "one child" and isinstance(router, AttentionRouting):
        router = AttentionRouting(1, PARENTS)
    activations = activations[:, : votes.shape[1]].requires_grad_()
    parents = router(votes, activations)
    (parents.poses.sum() + parents.activations.sum()).backward()
    for tensor in (*parents, votes.grad):
        assert torch.isfinite(tensor).all()


def test_children_that_are_all_off_stay_finite(router: Router, votes: torch.Tensor) -> None:
    votes.requires_grad_()
    off = torch.zeros(BATCH, CHILDREN, requires_grad=True)
    parents = router(votes, off)
    (parents.poses.sum() + parents.activations.sum()).backward()
    for tensor in (*parents, votes.grad):
        assert torch.isfinite(tensor).all()


def test_autocast_does_not_reach_routing(router: Router, votes: torch.Tensor, activations: torch.Tensor) -> None:
    plain = router(votes, activations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = router(votes, activations)
    torch.testing.assert_close(under_autocast, plain, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_parents_have_the_type_of_the_votes(
    router: Router, votes: torch.Tensor, activations: torch.Tensor, dtype: torch.dtype
) -> None:
    parents = router.to(dtype)(votes.to(dtype), activations.to(dtype))
    assert parents.poses.dtype == parents.activations.dtype == dtype


@pytest.mark.parametrize("shape", [(7, 3, 4), (2, 7, 12), (1, 2, 7, 3, 4), (2, 0, 3, 4)])
def test_votes_of_the_wrong_shape(router: Router, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"votes must have the shape \(batch, child, parent, dim\).* got"):
        router(torch.zeros(shape), None)


def test_votes_that_are_integers(router: Router) -> None:
    with pytest.raises(ValueError, match=r"must be floating point, got torch\.int64"):
        router(torch.zeros(BATCH, CHILDREN, PARENTS, DIM, dtype=torch.int64), None)


def test_activations_of_the_wrong_shape(router: Router, votes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"activations must have the shape \(batch, child\) = \(2, 7\), got \(2, 6\)"):
        router(votes, torch.ones(BATCH, CHILDREN - 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_votes_that_are_not_finite(router: Router, votes: torch.Tensor, activations: torch.Tensor, bad: float) -> None:
    votes[1, 2, 0, 1] = bad
    with pytest.raises(NonFiniteError, match="1 of 168 votes are NaN or infinite"):
        router(votes, activations)


@pytest.mark.parametrize("name", ["em 3", "vb 3"])
def test_activations_that_are_not_finite_are_named(name: str, votes: torch.Tensor, activations: torch.Tensor) -> None:
    activations[0, :3] = torch.nan
    with pytest.raises(NonFiniteError, match=r"not finite: 3 of 14 activations are NaN or infinite\Z"):
        MAKERS[name]()(votes, activations)
    votes[1, 2, 0, 1] = torch.inf
    with pytest.raises(NonFiniteError, match=r"1 of 168 votes are .* and 3 of 14 activations are NaN or infinite\Z"):
        MAKERS[name]()(votes, activations)


def test_parameters_and_statistics_that_are_not_finite_are_named(
    votes: torch.Tensor, activations: torch.Tensor
) -> None:
    em, hit_or_miss = EMRouting(PARENTS), HitOrMiss(PARENTS, DIM).eval()
    torch.nn.init.constant_(em.beta_a, torch.nan)
    hit_or_miss.norm.running_mean[1] = torch.nan
    for router, said in ((em, "3 of 3 elements of the router's beta_a"), (hit_or_miss, "1 of 12 .* norm.running_mean")):
        with pytest.raises(NonFiniteError, match=rf"not finite: {said} are NaN or infinite\Z"):
            router(votes, activations)


def test_an_empty_batch_is_no_error(router: Router, votes: torch.Tensor, activations: torch.Tensor) -> None:
    assert router(votes[:0], activations[:0]).poses.shape == (0, PARENTS, DIM)


class Loudest(FMAgreement):
    """A user's router, made from ours: the parent is the longest vote."""

    def route(self, votes: torch.Tensor, activations: torch.Tensor | None = None) -> Capsules:
        longest = votes.norm(dim=-1).argmax(dim=1, keepdim=True)
        poses = votes.gather(1, longest.unsqueeze(-1).expand(-1, -1, -1, votes.shape[-1])).squeeze(1)
        return Capsules(poses, poses.norm(dim=-1))


def test_a_router_that_overrides_route_takes_no_lazy_votes_unless_it_says_so() -> None:
    assert not Loudest.takes_lazy_votes
    with pytest.raises(ValueError, match="Loudest has no fused implementation; take implementation="):
        Loudest(implementation="fused")


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^implementation must be auto or plain or fused, got 'fast'"):
        FMAgreement(implementation="fast")


class Curious(Loudest):
    """A router that wants to know all of its place."""

    def __init__(self, num_children: int, num_parents: int, pose_dim: int, feeds_capsules: bool) -> None:
        super().__init__()
        self.place = (num_children, num_parents, pose_dim, feeds_capsules)


def test_a_router_gets_what_its_constructor_names_of_its_place() -> None:
    place = {"num_children": 6, "num_parents": 3, "pose_dim": 16, "feeds_capsules": True}
    assert make_router(Curious, **place).place == (6, 3, 16, True)
    em = make_router(partial(EMRouting, iterations=2), **place)
    assert (len(em.beta_a), em.iterations) == (3, 2)
    assert not make_router(FMAgreement, **place).normalize_pose
    last = place | {"feeds_capsules": False}
    assert make_router(FMAgreement, **last).normalize_pose
    assert not make_router(partial(FMAgreement, normalize_pose=False), **last).normalize_pose


def test_a_setting_that_the_place_decides_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_parents follows from the router's place"):
        make_router(partial(EMRouting, num_parents=4), num_children=6, num_parents=3, pose_dim=16, feeds_capsules=False)
