"""Capsule layers in somebody's own network: what they take, and how they refuse what does not fit."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from capsbench.capsules import (
    CapsuleLayer,
    Capsules,
    ConvCapsuleLayer,
    FullTransform,
    MatrixTransform,
    SharedMatrixTransform,
)
from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    Router,
    VBRouting,
)

BATCH, CHILDREN, PARENTS, DIM = 3, 18, 3, 16
LAYERS: dict[str, Callable[[Any], nn.Module]] = {
    "full": lambda router: CapsuleLayer(FullTransform(CHILDREN, PARENTS, DIM, 9), router),
    "normed": lambda router: CapsuleLayer(FullTransform(CHILDREN, PARENTS, DIM, 9), router, vote_norm="shared"),
    "matrix": lambda router: CapsuleLayer(MatrixTransform(CHILDREN, PARENTS, DIM), router),
    "shared": lambda router: CapsuleLayer(SharedMatrixTransform((3, 3), 2, PARENTS, DIM), router),
    "conv": lambda router: ConvCapsuleLayer(MatrixTransform(8, PARENTS, DIM), router, grid=(3, 3), kernel_size=2),
}
INSTANCES: dict[str, Callable[[], Router]] = {
    "fm": FMAgreement,
    "dynamic": DynamicRouting,
    "dynamic with biases": lambda: DynamicRouting(bias=True, num_parents=PARENTS, pose_dim=DIM),
    "em": lambda: EMRouting(PARENTS),
    "vb": lambda: VBRouting(PARENTS),
    "attention": lambda: AttentionRouting(CHILDREN, PARENTS),
    "inverted attention": lambda: InvertedAttention(DIM),
    "hit or miss": lambda: HitOrMiss(PARENTS, DIM),
}


@pytest.fixture(params=[*LAYERS, "conv in chunks"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], nn.Module]:
    if request.param == "conv in chunks":
        monkeypatch.setattr("capsbench.capsules.convolutional.CHUNK_BYTES", 1)
        return LAYERS["conv"]
    return LAYERS[request.param]


def children(num: int = CHILDREN, dim: int = DIM) -> Capsules:
    return Capsules(torch.randn(BATCH, num, dim), torch.rand(BATCH, num))


@pytest.mark.parametrize("name", INSTANCES)
def test_a_layer_takes_a_router_as_it_takes_its_class(name: str) -> None:
    given, router = children(), INSTANCES[name]()
    kind = partial(DynamicRouting, bias=True) if name == "dynamic with biases" else type(router)
    transform = MatrixTransform(CHILDREN, PARENTS, DIM)
    ours, theirs = CapsuleLayer(transform, router), CapsuleLayer(transform, kind)
    assert ours.router is router
    theirs.router.load_state_dict(router.state_dict())
    torch.testing.assert_close(ours(given), theirs(given))


@pytest.mark.parametrize(
    ("router", "said"),
    [
        (lambda: EMRouting(10), "this EMRouting was made for 10 parents, got 3"),
        (lambda: VBRouting(10), "this VBRouting was made for 10 parents, got 3"),
        (lambda: HitOrMiss(16, 3), "this HitOrMiss was made for 16 parents and 3 dimensions, got 3 parents and 16"),
        (lambda: AttentionRouting(1, 3), "made for 1 children and 3 parents, got 18 children and 3 parents"),
        (lambda: InvertedAttention(1), "this InvertedAttention was made for 1 dimensions, got 16"),
        (lambda: DynamicRouting(bias=True, num_parents=1, pose_dim=1), "made for 1 parents and 1 dimensions, got 3"),
    ],
)
def test_a_router_that_was_made_for_another_place_is_refused(router: Callable[[], Router], said: str) -> None:
    kind = type(router()).__name__
    with pytest.raises(ValueError, match=rf"{said}.* from the layer; give it {kind} itself"):
        CapsuleLayer(MatrixTransform(CHILDREN, PARENTS, DIM), router())
    with pytest.raises(ValueError, match=said):
        router()(torch.randn(BATCH, CHILDREN, PARENTS, DIM), torch.rand(BATCH, CHILDREN))


def test_a_router_that_feeds_no_capsules_is_refused_where_capsules_read_it() -> None:
    transform = MatrixTransform(CHILDREN, PARENTS, DIM)
    for router in (FMAgreement(), InvertedAttention(DIM)):
        with pytest.raises(ValueError, match=r"feeds no capsules, .*; give it .* itself, or set feeds_capsules=True"):
            CapsuleLayer(transform, router, feeds_capsules=True)
    CapsuleLayer(transform, DynamicRouting(), feeds_capsules=True)
    CapsuleLayer(transform, FMAgreement(feeds_capsules=True), feeds_capsules=True)


def test_a_router_that_feeds_capsules_is_refused_where_none_read_it() -> None:
    transform = MatrixTransform(CHILDREN, PARENTS, DIM)
    for router in (FMAgreement(feeds_capsules=True), InvertedAttention(DIM, feeds_capsules=True)):
        with pytest.raises(
            ValueError, match=r"feeds capsules, but the layer does not; .*, or set feeds_capsules=False"
        ):
            CapsuleLayer(transform, router)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (partial(EMRouting, 5), "this EMRouting was made for 5 parents, got 3 parents from the layer"),
        (lambda: AttentionRouting(1, PARENTS), "made for 1 children and 3 parents, got 18 children and 3 parents"),
        (partial(HitOrMiss, PARENTS, 9), "made for 3 parents and 9 dimensions, got 3 parents and 16 dimensions"),
        (lambda: InvertedAttention(DIM, feeds_capsules=True), "feeds capsules, but the layer does not"),
    ],
)
def test_a_factory_of_a_router_for_another_place_is_refused(factory: Callable[..., Router], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CapsuleLayer(MatrixTransform(CHILDREN, PARENTS, DIM), factory)


def test_what_makes_no_router_is_refused() -> None:
    with pytest.raises(ValueError, match=r"router must make a capsbench\.routing\.Router, got Identity"):
        CapsuleLayer(MatrixTransform(CHILDREN, PARENTS, DIM), nn.Identity)


def test_two_layers_may_share_a_router() -> None:
    router = EMRouting(PARENTS)
    first, second = (CapsuleLayer(MatrixTransform(CHILDREN, PARENTS, DIM), router) for _ in range(2))
    assert first.router.beta_a is second.router.beta_a


def test_a_router_that_divides_children_among_places_is_of_one_layer() -> None:
    router = EMRouting(PARENTS)
    LAYERS["conv"](router)
    for name in ("conv", "matrix"):
        with pytest.raises(ValueError, match="divides the children of another layer among places; give each"):
            LAYERS[name](router)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *((partial(CapsuleLayer, vote_gain=gain), "vote_gain has no effect with vote_norm") for gain in (0.5, -1.0)),
        (partial(CapsuleLayer, batch_norm_momentum=0.1), "batch_norm_momentum has no effect with vote_norm"),
        (partial(ConvCapsuleLayer, grid=(3, 3), kernel_size=3, vote_gain=0.5), "vote_gain has no effect with"),
    ],
)
def test_a_setting_without_effect_is_refused(make: Callable[..., nn.Module], said: str) -> None:
    with pytest.raises(ValueError, match=f'{said}="none"; leave it out' if said.endswith("norm") else said):
        make(MatrixTransform(CHILDREN, PARENTS, DIM), FMAgreement)


def test_fm_of_one_child_warns_once() -> None:
    layer = CapsuleLayer(FullTransform(1, PARENTS, DIM, DIM), FMAgreement)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            layer(torch.randn(BATCH, 1, DIM))
    assert [str(each.message).split(":")[0] for each in caught] == ["FM agreement of one child has no pairs"]


@pytest.mark.parametrize("router", [FMAgreement, partial(DynamicRouting, implementation="plain")])
def test_poses_are_enough_where_no_activations_are_read(layer: Callable[[Any], nn.Module], router: Any) -> None:
    made, given = layer(router), children()
    alone, both = made(given.poses.requires_grad_()), made(given)
    torch.testing.assert_close(alone, both)
    alone.poses.sum().backward()
    assert given.poses.grad is not None


@pytest.mark.parametrize("router", [EMRouting, VBRouting])
def test_poses_alone_are_refused_where_activations_weigh_them(layer: Callable[[Any], nn.Module], router: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"{router.__name__} weighs .*: pass Capsules\(poses, activations\), not poses"
    ):
        layer(router)(children().poses)


@pytest.mark.parametrize("implementation", ["plain", "auto"])
@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting, VBRouting, HitOrMiss])
def test_an_empty_batch_gives_no_parents(
    layer: Callable[[Any], nn.Module], router: type[Router], implementation: str
) -> None:
    made = layer(partial(router, implementation=implementation))
    none = Capsules(torch.randn(0, CHILDREN, DIM, requires_grad=True), torch.rand(0, CHILDREN))
    dim = made(children()).poses.shape[1:]
    for training in (True, False):
        parents = made.train(training)(none)
        assert parents.poses.shape == (0, *dim)
        (parents.poses.sum() + parents.activations.sum()).backward()


WRONG = {"one child": (1, DIM), "too many": (CHILDREN + 1, DIM), "one dimension": (CHILDREN, 1), "dim": (CHILDREN, 4)}


@pytest.mark.parametrize("implementation", ["plain", "fused"])
@pytest.mark.parametrize("wrong", WRONG)
def test_other_children_are_refused(layer: Callable[[Any], nn.Module], implementation: str, wrong: str) -> None:
    """One child, or one dimension, would be broadcast to all."""
    made = layer(partial(FMAgreement, implementation=implementation))
    num, dim = WRONG[wrong]
    for given in (children(num, dim), children(num, dim).poses):
        with pytest.raises(ValueError, match=rf"this layer takes 18 children of 16 dimensions.*, got {num} of {dim}"):
            made(given)


def test_what_is_no_batch_of_poses_is_refused(layer: Callable[[Any], nn.Module]) -> None:
    made = layer(FMAgreement)
    with pytest.raises(ValueError, match=r"18 children of 16 dimensions.*, got poses of shape \(18, 16\)"):
        made(torch.randn(CHILDREN, DIM))
    with pytest.raises(ValueError, match=r"poses must be floating point, got torch\.int64"):
        made(torch.ones(BATCH, CHILDREN, DIM, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(1, CHILDREN), (BATCH, 1), (BATCH, CHILDREN, 1)])
def test_activations_of_other_children_are_refused(layer: Callable[[Any], nn.Module], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"activations must have the shape \(batch, child\) = \(3, 18\), got"):
        layer(EMRouting)(Capsules(children().poses, torch.rand(shape)))


@pytest.mark.parametrize("transform", [FullTransform(4, 3, 4, 9), MatrixTransform(4, 3, 4)])
def test_a_transform_alone_refuses_other_children(transform: Any) -> None:
    for compute in (transform, transform.factors):
        for num, dim in ((1, 4), (4, 1)):
            with pytest.raises(ValueError, match=f"takes 4 children of 4 dimensions, got {num} of {dim}"):
                compute(torch.randn(BATCH, num, dim))


UNCHECKED = """
from functools import partial
import torch
from capsbench.capsules import CapsuleLayer, Capsules, DeconvDecoder, DeepCapsDecoder, DenseDecoder, FullTransform
from capsbench.routing import EMRouting, FMAgreement, LazyVotes

def says(run, *given):
    try:
        run(*given)
    except Exception as error:
        return str(error)
    return "nothing"

for router in (FMAgreement, EMRouting):
    layer = CapsuleLayer(FullTransform(6, 3, 8, 16), partial(router, implementation="plain")).eval()
    children = lambda batch, num=6, dim=8: Capsules(torch.randn(batch, num, dim), torch.rand(batch, num))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    batch = torch.export.Dim("batch", min=2)
    shapes = {"children": Capsules({0: batch}, {0: batch})}
    exported = torch.export.export(layer, (children(3),), dynamic_shapes=shapes).module()
    for size in (3, 5):
        given = children(size)
        for made in (compiled, exported):
            torch.testing.assert_close(made(given).poses, layer(given).poses)
    for num, dim in ((1, 8), (6, 1)):
        wrong, said = children(3, num, dim), f"this layer takes 6 children of 8 dimensions, got {num} of {dim}"
        assert said in says(compiled, wrong), says(compiled, wrong)
        assert said in says(lambda: torch.export.export(layer, (wrong,)))
        assert "Guard failed" in says(exported, wrong), says(exported, wrong)  # PyTorch's own check of a program
    for name in ("fm", None):
        assert says(CapsuleLayer, layer.transform, name).startswith("router must be a router, its class or functools")

for shape in ((4, 1, 2, 5), (4, 7, 1, 5), (4, 7, 2, 1), (4, 2, 7, 5)):
    said = says(LazyVotes, torch.randn(shape), torch.randn(7, 3, 5, 2, 6))
    assert said.startswith(f"children {shape} must be (batch, child, row, inner) of weight"), said

for kind in (DeconvDecoder, DeepCapsDecoder, DenseDecoder):
    decoder, chosen = kind((1, 8, 8), 5, 10), torch.zeros(4, 2, dtype=torch.int64)
    for batch in (1, 3):  # would be broadcast, or cut
        said = says(decoder, torch.randn(4, 5, 10), chosen[:batch])
        assert said == f"chosen classes must be (4, several), got ({batch}, 2)", said
"""


def test_what_is_refused_without_checks_of_types() -> None:
    """By layers as they are, compiled and exported. In a process of its own, since tests check types on import."""
    subprocess.run([sys.executable, "-c", UNCHECKED], check=True)
