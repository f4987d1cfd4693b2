"""The convolutional capsule layer: golden numbers, and the same as a loop over places."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from capsbench.capsules import CapsuleLayer, Capsules, ConvCapsuleLayer, FullTransform, MatrixTransform
from capsbench.capsules import convolutional as module
from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    RouterFactory,
    VBRouting,
)

CASES: dict[str, dict[str, int]] = {"s1": {}, "s2": {"stride": 2}, "s2p1": {"stride": 2, "padding": 1}}
GRID, TYPES, PARENTS = (5, 6), 3, 4
ROUTERS: dict[str, RouterFactory] = {
    "fm": FMAgreement,
    "dynamic3": DynamicRouting,
    "em3": EMRouting,
    "attention": AttentionRouting,
    "inverted attention": InvertedAttention,
    "vb3": VBRouting,
    "hit or miss": HitOrMiss,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "routing" / "systems.npz")
    return {name.removeprefix("conv_"): torch.from_numpy(arrays[name]) for name in arrays if name.startswith("conv_")}


def make(router: RouterFactory, *, full: bool = False, competition: Any = "place", **settings: Any) -> ConvCapsuleLayer:
    torch.manual_seed(0)
    transform = FullTransform(27, PARENTS, 16, 8) if full else MatrixTransform(27, PARENTS, 16)
    return ConvCapsuleLayer(transform, router, grid=GRID, kernel_size=3, competition=competition, **settings).double()


def children_of(golden: dict[str, Tensor]) -> Capsules:
    return Capsules(golden["child_poses"].flatten(1, 3), golden["child_activations"].flatten(1))


@pytest.mark.parametrize("case", CASES)
def test_golden_fm(golden: dict[str, Tensor], case: str) -> None:
    layer = make(partial(FMAgreement, normalize_pose=False), **CASES[case])
    layer.layer.transform.weight.data = golden["matrix_weight"]
    parents = layer(children_of(golden))
    assert layer.parent_grid == tuple(golden[f"{case}_grid"].tolist())
    torch.testing.assert_close(parents.poses, golden[f"{case}_fm_s"].flatten(1, 2), atol=1e-8, rtol=0)
    torch.testing.assert_close(parents.activations, golden[f"{case}_fm_activations"].flatten(1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("competition", ["place", "all"])
@pytest.mark.parametrize("router", ["dynamic3", "em2", "em3", "vb3_raw"])
@pytest.mark.parametrize("case", CASES)
def test_golden_competition(golden: dict[str, Tensor], case: str, router: str, competition: Any) -> None:
    made: dict[str, RouterFactory] = {
        "dynamic3": DynamicRouting,
        "em2": partial(EMRouting, iterations=2),
        "em3": EMRouting,
        "vb3_raw": _RawVB,
    }
    layer = make(made[router], competition=competition, **CASES[case])
    layer.layer.transform.weight.data = golden["matrix_weight"]
    if router.startswith("em"):
        layer.layer.router.beta_a.data, layer.layer.router.beta_v.data = golden["em_beta_a"], golden["em_beta_v"]
    given = children_of(golden)
    for dtype, atol in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
        parents = layer.to(dtype)(Capsules(given.poses.to(dtype), given.activations.to(dtype)))
        for name, found in zip(("poses", "activations"), parents, strict=True):
            theirs = golden[f"{case}_{router}_{competition}_{name}"].flatten(1, 2)
            torch.testing.assert_close(found.double(), theirs, atol=atol, rtol=0)


class _RawVB(VBRouting):
    def normalise(self, parents: Capsules) -> Capsules:
        return parents


@pytest.mark.parametrize("case", ["s2", "s2p1"])
@pytest.mark.parametrize("full", [False, True])
def test_golden_votes(golden: dict[str, Tensor], case: str, full: bool) -> None:
    kind = "full" if full else "matrix"
    layer = make(FMAgreement, full=full, **CASES[case])
    layer.layer.transform.weight.data = golden[f"{kind}_weight"]
    votes = layer.layer.transform(layer._windows(children_of(golden).poses))
    torch.testing.assert_close(votes, golden[f"{case}_votes_{kind}"].flatten(0, 1), atol=1e-8, rtol=0)


def looped(layer: ConvCapsuleLayer, children: Capsules) -> Capsules:
    """A dense capsule layer at one place after the other."""
    dense, size, pad = layer.layer, layer.kernel_size, layer.padding
    poses = children.poses.reshape(len(children.poses), *GRID, TYPES, -1)
    padded = poses.new_zeros(len(poses), GRID[0] + 2 * pad, GRID[1] + 2 * pad, TYPES, poses.shape[-1])
    padded[:, pad : pad + GRID[0], pad : pad + GRID[1]] = poses
    active = poses.new_zeros(padded.shape[:-1])
    active[:, pad : pad + GRID[0], pad : pad + GRID[1]] = children.activations.reshape(poses.shape[:-1])
    found = []
    for row, column in itertools.product(*map(range, layer.parent_grid)):
        top, left = row * layer.stride, column * layer.stride
        window = (slice(None), slice(top, top + size), slice(left, left + size))
        found.append(dense(Capsules(padded[window].flatten(1, 3), active[window].flatten(1))))
    return Capsules(torch.cat([one.poses for one in found], 1), torch.cat([one.activations for one in found], 1))


@pytest.mark.parametrize("full", [False, True], ids=["matrix", "full"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", ["plain", "fused"])
@pytest.mark.parametrize("router", ROUTERS)
def test_equals_a_loop_over_places(router: str, implementation: str, case: str, full: bool) -> None:
    layer = make(partial(ROUTERS[router], implementation=implementation), full=full, **CASES[case]).eval()
    poses = torch.randn(2, 90, 16, dtype=torch.float64, requires_grad=True)
    activations = torch.rand(2, 90, dtype=torch.float64, requires_grad=True)
    sources = [poses, activations, *layer.parameters()]
    results = []
    for way in (layer, partial(looped, layer)):
        parents = way(Capsules(poses, activations))
        loss = parents.poses.sin().sum() + parents.activations.exp().sum()
        gradients = torch.autograd.grad(loss, sources, allow_unused=True)
        results.append([*parents, *(torch.zeros(()) if grad is None else grad for grad in gradients)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_kernel_as_large_as_the_map_is_the_dense_layer() -> None:
    transform = MatrixTransform(5 * 5 * 2, 3, 16)
    given = Capsules(torch.randn(2, 50, 16), torch.rand(2, 50))
    ours = ConvCapsuleLayer(transform, EMRouting, grid=(5, 5), kernel_size=5)  # all is one place
    dense = CapsuleLayer(transform, EMRouting)
    dense.load_state_dict(ours.layer.state_dict())
    torch.testing.assert_close(ours(given), dense(given))


@pytest.mark.parametrize("competition", ["place", "all"])
def test_shifting_the_map_by_a_place_shifts_the_parents(competition: Any) -> None:
    layer = ConvCapsuleLayer(
        MatrixTransform(9 * 2, 3, 16), DynamicRouting, grid=(9, 9), kernel_size=3, competition=competition
    )
    poses = torch.zeros(1, 9, 9, 2, 16)
    poses[:, 3:5, 3:5] = torch.randn(1, 2, 2, 2, 16)
    here, there = (
        layer(Capsules(moved.flatten(1, 3), torch.ones(1, 162))).poses.view(7, 7, 3, 16)
        for moved in (poses, poses.roll((1, 1), dims=(1, 2)))
    )
    torch.testing.assert_close(there[1:, 1:], here[:-1, :-1])


@pytest.mark.parametrize(("router", "divides"), [(EMRouting, True), (FMAgreement, False), (AttentionRouting, False)])
def test_each_child_is_divided_once_among_all_that_see_it(router: RouterFactory, divides: bool) -> None:
    if not divides:
        with pytest.raises(ValueError, match=f"{router.__name__} divides no children; take competition="):
            make(router, competition="all")
        return
    layer = make(router, competition="all", padding=1)
    logits = torch.randn(2 * 30, 27, PARENTS, dtype=torch.float64)
    shares = layer.share_among_all(logits).sum(dim=-1)
    torch.testing.assert_close(layer._over_places(shares, "sum"), torch.ones(2, 7 * 8 * TYPES, dtype=torch.float64))
    assert torch.isfinite(layer.share_among_all(1e4 * logits)).all()


def chunked(monkeypatch: pytest.MonkeyPatch, router: RouterFactory) -> tuple[ConvCapsuleLayer, Capsules]:
    """A layer that routes two examples at a time, and five of them."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * 12 * 27 * 4 * 16 * 8)
    torch.manual_seed(0)
    poses = torch.randn(5, 90, 16, dtype=torch.float64, requires_grad=True)
    return make(router, competition="all"), Capsules(poses, torch.ones(5, 90, dtype=torch.float64))


def test_weights_that_are_frozen_get_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = chunked(monkeypatch, DynamicRouting)
    layer.requires_grad_(False)
    layer(given).activations.sum().backward()
    assert given.poses.grad is not None
    assert layer.layer.transform.weight.grad is None


def test_second_derivatives_are_those_of_all_votes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for implementation in ("auto", "plain"):
        torch.manual_seed(0)
        layer, given = chunked(monkeypatch, partial(DynamicRouting, implementation=implementation))
        (slope,) = torch.autograd.grad(layer(given).activations.sum(), given.poses, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), (given.poses, layer.layer.transform.weight)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("router", ROUTERS)
def test_second_derivatives_are_finite_where_children_lie_outside_the_map(router: str) -> None:
    layer = make(ROUTERS[router], padding=1)
    given = torch.randn(2, 90, 16, dtype=torch.float64, requires_grad=True)
    parents = layer(Capsules(given, torch.ones(2, 90, dtype=torch.float64)))
    (slope,) = torch.autograd.grad(parents.poses.sin().sum() + parents.activations.sum(), given, create_graph=True)
    for found in torch.autograd.grad(slope.square().sum(), (given, layer.layer.transform.weight)):
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
def test_gradients_that_are_computed_together(router: RouterFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = make(router), torch.randn(2, 90, 16, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(module, "CHUNK_BYTES", 5 * 27 * 4 * 16 * 8)  # five of 24 places
    active = layer(Capsules(given, torch.ones(2, 90, dtype=torch.float64))).activations
    sources, seeds = (given, layer.layer.transform.weight), torch.randn(3, *active.shape, dtype=torch.float64)
    together = torch.autograd.grad(active, sources, seeds, retain_graph=True, is_grads_batched=True)
    for number, seed in enumerate(seeds):
        alone = torch.autograd.grad(active, sources, seed, retain_graph=True)
        torch.testing.assert_close(tuple(found[number] for found in together), alone)


def test_per_example_gradients_of_layers_that_route_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, (poses, activations) = chunked(monkeypatch, EMRouting)
    layer.eval()
    weights = dict(layer.named_parameters())

    def loss(weights: dict[str, torch.Tensor], poses: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        given = Capsules(poses.unsqueeze(0), activations.unsqueeze(0))
        return torch.func.functional_call(layer, weights, (given,)).poses.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, poses.detach(), activations)
    layer(Capsules(poses, activations)).poses.square().sum().backward()
    for name, weight in layer.named_parameters():
        torch.testing.assert_close(
            each[name].sum(dim=0), torch.zeros_like(weight) if weight.grad is None else weight.grad
        )


def test_a_replica_for_another_device_routes_in_chunks(
    monkeypatch: pytest.MonkeyPatch, replica: Callable[[torch.nn.Module], torch.nn.Module]
) -> None:
    layer, given = chunked(monkeypatch, EMRouting)
    layer(given).poses.square().sum().backward()
    expected = {name: weight.grad for name, weight in layer.named_parameters()}
    layer.zero_grad()
    replica(layer)(given).poses.square().sum().backward()
    torch.testing.assert_close({name: weight.grad for name, weight in layer.named_parameters()}, expected)


def test_autocast_reaches_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make(DynamicRouting, competition="all").float()
    poses = torch.randn(5, 90, 16, requires_grad=True)
    slopes = []
    for size in (module.CHUNK_BYTES, 12 * 27 * 4 * 16 * 4):  # all, and one example
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        with torch.autocast("cpu", torch.float16):
            loss = layer(Capsules(poses, torch.ones(5, 90))).activations.sum()
        slopes += torch.autograd.grad(loss, poses)
    torch.testing.assert_close(*slopes)


def test_competition_is_the_routers_unless_it_is_given() -> None:
    made = {router: make(router, competition=None).competition for router in (FMAgreement, DynamicRouting, EMRouting)}
    assert list(made.values()) == ["place", "place", "all"]


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "one child": (
        lambda: ConvCapsuleLayer(MatrixTransform(1, 3, 16), FMAgreement, grid=(5, 5), kernel_size=1),
        "a parent of one child has no agreement",
    ),
    "no multiple": (
        lambda: ConvCapsuleLayer(MatrixTransform(10, 3, 16), FMAgreement, grid=(5, 5), kernel_size=3),
        "10 children must be kernel_size² · types, with kernel_size=3",
    ),
    "too small a map": (
        lambda: ConvCapsuleLayer(MatrixTransform(9, 3, 16), FMAgreement, grid=(5, 2), kernel_size=3),
        "a window of 3×3 does not fit into a map of 5×2",
    ),
    "fused": (
        lambda: make(partial(EMRouting, implementation="fused"), competition="all"),
        'competition="all" stores all votes',
    ),
    "no kernel": (lambda: make(FMAgreement, stride=0), "stride must be at least 1, got 0"),
    "another map": (
        lambda: make(FMAgreement)(Capsules(torch.zeros(1, 80, 16).double(), torch.zeros(1, 80).double())),
        "this layer takes 90 children of 16 dimensions, 3 at each place of a 5×6 map, got 80 of 16",
    ),
}


@pytest.mark.parametrize(("way", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(way: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        way()


class Largest(TorchDispatchMode):
    """Notes the largest tensor that is made, in bytes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.untyped_storage().size():
            self.size = max(self.size, made.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("competition", ["place", "all"])
def test_no_tensor_grows_as_votes_do_with_the_map(monkeypatch: pytest.MonkeyPatch, competition: Any) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 2**17)
    for side in (8, 14):
        layer = ConvCapsuleLayer(
            MatrixTransform(72, 16, 16), EMRouting, grid=(side, side), kernel_size=3, competition=competition
        )
        places = (side - 2) ** 2
        with Largest() as largest:
            given = Capsules(torch.randn(2, side * side * 8, 16, requires_grad=True), torch.rand(2, side * side * 8))
            layer(given).activations.sum().backward()
        rows = 2 * places if competition == "place" else places
        windows, votes = 4 * 2 * places * 72 * 16, 4 * rows * 72 * 16 * 16
        assert largest.size <= (max(windows, 2**17) if competition == "place" else max(windows, votes))


@pytest.mark.parametrize(
    ("router", "competition"),
    [
        (FMAgreement, "place"),
        (HitOrMiss, "place"),
        *itertools.product([DynamicRouting, EMRouting, VBRouting], ["place", "all"]),
    ],
)
def test_some_rows_at_a_time_give_the_same(
    router: RouterFactory, competition: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(router, competition=competition)
    poses = torch.randn(5, 90, 16, dtype=torch.float64, requires_grad=True)
    results = []
    for size in (module.CHUNK_BYTES, 2 * 12 * 27 * 4 * 16 * 8):  # all, and two examples
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        layer.load_state_dict(make(router, competition=competition).state_dict())
        parents = layer(Capsules(poses, torch.ones(5, 90, dtype=torch.float64)))
        loss = parents.poses.sin().sum() + parents.activations.exp().sum()
        results.append([*parents, *torch.autograd.grad(loss, [poses, *layer.parameters()]), *layer.buffers()])
        results[-1] = [tensor.clone() for tensor in results[-1]]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("router", [HitOrMiss, VBRouting])
def test_what_is_normalised_over_the_batch_has_32_bits_until_then(
    router: RouterFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(router).half()
    given = Capsules(1000 * torch.randn(5, 90, 16).half(), torch.ones(5, 90).half())
    whole = layer(given)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    for ours, theirs in zip(layer(given), whole, strict=True):
        assert ours.dtype == torch.float16
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False], ids=["trained alone", "frozen alone"])
def test_votes_are_normalised_over_the_batch_where_their_batch_norm_trains(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make(FMAgreement, vote_norm="shared").train(not training)
    layer.layer.vote_norm.norm.train(training)
    given = torch.randn(5, 90, 16, dtype=torch.float64)
    whole = layer(given)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    torch.testing.assert_close(layer(given), whole)
    assert layer.layer.vote_norm.norm.num_batches_tracked == 2 * training
