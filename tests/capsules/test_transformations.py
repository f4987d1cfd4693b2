"""What PyTorch makes of functions works with a layer: the table "What works with a layer" of docs/models.md."""

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from capsbench.capsules import CapsuleLayer, FullTransform, VoteNormKind
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
    RouterFactory,
    VBRouting,
)

ROUTERS: dict[str, RouterFactory] = {
    "fm": FMAgreement,
    "fm_raw": partial(FMAgreement, normalize_votes=False, normalize_pose=False),
    "fm_squash": partial(FMAgreement, normalize_pose=False, output="squash"),
    "dynamic1": partial(DynamicRouting, iterations=1),
    "dynamic3": DynamicRouting,
    "leaky": partial(DynamicRouting, leaky=True),
    "bias": partial(DynamicRouting, bias=True),
    "detach": partial(DynamicRouting, detach=True),
    "em1": partial(EMRouting, iterations=1),
    "em3": EMRouting,
    "attention": AttentionRouting,
    "inverted": InvertedAttention,
    "vb": VBRouting,
    "hit_or_miss": HitOrMiss,
}
IMPLEMENTATIONS = ("plain", "auto", "fused")
"""These layers are small, so "auto" stores their votes. "fused" computes blocks of them, as "auto" in large layers."""
VOTE_NORMS: tuple[VoteNormKind, ...] = ("none", "shared")
CHILDREN, PARENTS = 5, 3
DYNAMIC = {0: torch.export.Dim.DYNAMIC}

Place = tuple[str, str, VoteNormKind]
PLACES: list[Place] = list(itertools.product(ROUTERS, IMPLEMENTATIONS, VOTE_NORMS))


def table(
    is_quick: Callable[[Place], bool] = lambda place: True, among: Callable[[Place], bool] = lambda place: True
) -> pytest.MarkDecorator:
    """Layers to try; those that are not quick are left to `make test-engines`."""
    rows = [
        pytest.param(place, id="-".join(place), marks=[] if is_quick(place) else [pytest.mark.engines])
        for place in PLACES
        if among(place)
    ]
    return pytest.mark.parametrize("place", rows)


def make(
    place: Place, *, children: int = CHILDREN, parents: int = PARENTS, dtype: torch.dtype = torch.float64
) -> CapsuleLayer:
    router, implementation, vote_norm = place
    torch.manual_seed(0)
    factory = partial(ROUTERS[router], implementation=implementation)
    return CapsuleLayer(FullTransform(children, parents, 4, 6), factory, vote_norm=vote_norm).to(dtype)


def inputs(batch: int = 4, children: int = CHILDREN, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Poses and activations of children."""
    generator = torch.Generator().manual_seed(1)
    poses = torch.randn(batch, children, 4, generator=generator, dtype=torch.float64)
    return poses.to(dtype), torch.rand(batch, children, generator=generator, dtype=torch.float64).to(dtype)


def weigh(parents: Capsules) -> Tensor:
    """A number that depends on all parents, and not linearly."""
    return parents.poses.sin().sum() + parents.activations.square().sum()


def loss(layer: nn.Module, weights: dict[str, Tensor], poses: Tensor, activations: Tensor) -> Tensor:
    return weigh(functional_call(layer, weights, (Capsules(poses, activations),)))


def gradients(layer: nn.Module, poses: Tensor, activations: Tensor) -> dict[str, Tensor]:
    """The gradients of all weights, as autograd computes them."""
    names, weights = zip(*layer.named_parameters(), strict=True)
    total = weigh(layer(Capsules(poses, activations)))
    found = torch.autograd.grad(total, weights, allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for name, weight, gradient in zip(names, weights, found, strict=True)
    }


def is_typical(place: Place) -> bool:
    """Whether to try a layer each time. Implementations take one path when they are transformed."""
    return place[1:] == ("auto", "shared") and place[0] in ("fm", "dynamic3", "em3", "attention", "vb", "hit_or_miss")


@table(lambda place: place == ("fm", "auto", "shared"))
def test_export(place: Place) -> None:
    layer = make(place).eval()
    spec = Capsules(DYNAMIC, DYNAMIC)
    program = torch.export.export(layer, (Capsules(*inputs()),), dynamic_shapes=(spec,)).module()
    for batch in (1, 6):
        torch.testing.assert_close(
            program(Capsules(*inputs(batch))), layer(Capsules(*inputs(batch))), atol=1e-7, rtol=0
        )


@table(lambda place: False, among=lambda place: place[1] == "auto")
def test_onnx(place: Place, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = make(place, dtype=torch.float32).eval()
    spec = Capsules(DYNAMIC, DYNAMIC)
    torch.onnx.export(
        layer,
        (Capsules(*inputs(dtype=torch.float32)),),
        tmp_path / "layer.onnx",
        dynamo=True,
        optimize=False,
        verbose=False,
        dynamic_shapes=(spec,),
    )
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx")
    names = [each.name for each in session.get_inputs()]  # without those that a router does not read
    for batch in (1, 6):
        given = inputs(batch, dtype=torch.float32)
        found = session.run(None, {name: values.numpy() for name, values in zip(names, given, strict=False)})
        for ours, theirs in zip(layer(Capsules(*given)), found, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-4, rtol=1e-4)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch off the checks of shapes that only tests have: they are no code for a compiler."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def check_compiled(place: Place, backend: str) -> None:
    torch.compiler.reset()
    layer = make(place)
    compiled = copy.deepcopy(layer)
    compiled.compile(fullgraph=True, backend=backend)
    torch.testing.assert_close(gradients(compiled, *inputs()), gradients(layer, *inputs()))
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(layer.named_buffers()))


@table(is_typical)
@pytest.mark.usefixtures("unchecked_shapes")
def test_compile_without_graph_breaks(place: Place) -> None:
    check_compiled(place, "eager")


@table(lambda place: False, among=lambda place: place[1] == "auto")
@pytest.mark.usefixtures("unchecked_shapes")
def test_compile_with_gradients(place: Place) -> None:
    check_compiled(place, "aot_eager")


@table(lambda place: False, among=lambda place: is_typical(place) and place[0] in ("fm", "dynamic3", "em3"))
@pytest.mark.usefixtures("unchecked_shapes")
def test_compile_to_code(place: Place) -> None:
    check_compiled(place, "inductor")


@table()
def test_func_grad(place: Place) -> None:
    layer = make(place).eval()
    found = grad(partial(loss, layer))(dict(layer.named_parameters()), *inputs())
    torch.testing.assert_close(found, gradients(layer, *inputs()))


@table()
def test_vmap_of_grad(place: Place) -> None:
    layer = make(place).eval()
    each = grad(lambda weights, *example: loss(layer, weights, *(part.unsqueeze(0) for part in example)))
    found = vmap(each, in_dims=(None, 0, 0))(dict(layer.named_parameters()), *inputs())
    poses, activations = inputs()
    for number in range(len(poses)):
        expected = gradients(layer, poses[number : number + 1], activations[number : number + 1])
        torch.testing.assert_close({name: values[number] for name, values in found.items()}, expected)


@table()
def test_jvp(place: Place) -> None:
    """⟨u, J t⟩ = ⟨Jᵀ u, t⟩."""
    layer = make(place).eval()
    poses, activations = inputs()
    parents, tangent = jvp(lambda poses: layer(Capsules(poses, activations)).poses, (poses,), (poses.cos(),))
    poses.requires_grad_()
    (back,) = torch.autograd.grad(layer(Capsules(poses, activations)).poses, poses, parents.exp())
    torch.testing.assert_close((parents.exp() * tangent).sum(), (back * poses.cos()).sum())


@table(
    lambda place: place[1:] == ("fused", "shared") and place[0] not in ("em3", "vb"),
    among=lambda place: place[0] != "detach",  # which is meant to have another gradient
)
def test_gradcheck_twice(place: Place) -> None:
    layer = make(place, children=3, parents=2)
    names = [name for name, _ in layer.named_parameters()]

    def parents(poses: Tensor, activations: Tensor, *weights: Tensor) -> Capsules:
        return functional_call(layer, dict(zip(names, weights, strict=True)), (Capsules(poses, activations),))

    given = (*(part.requires_grad_() for part in inputs(batch=2, children=3)), *layer.parameters())
    assert torch.autograd.gradcheck(parents, given, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(parents, given, fast_mode=True)


def second(layer: CapsuleLayer, poses: Tensor, activations: Tensor) -> list[Tensor | None]:
    """The gradients of a gradient's length."""
    poses = poses.requires_grad_()
    (slope,) = torch.autograd.grad(weigh(layer(Capsules(poses, activations))), poses, create_graph=True)
    return list(torch.autograd.grad(slope.square().sum(), [poses, layer.transform.weight], allow_unused=True))


@table()
def test_double_backward(place: Place) -> None:
    plain = make((place[0], "plain", place[2]))
    torch.testing.assert_close(second(make(place), *inputs()), second(plain, *inputs()))


@table()
def test_batched_gradients(place: Place) -> None:
    """Rows of a Jacobian that are computed together, as torch.autograd.functional.jacobian(vectorize=True) does."""
    layer = make(place).eval()
    poses, activations = inputs(batch=2)
    poses.requires_grad_()
    parents = torch.cat([part.flatten() for part in layer(Capsules(poses, activations))])
    sources = [poses, layer.transform.weight]
    each = [torch.autograd.grad(one, sources, retain_graph=True) for one in parents if one.requires_grad]
    together = torch.autograd.grad(parents, sources, torch.eye(len(parents)).double(), is_grads_batched=True)
    for number, found in enumerate(together):
        torch.testing.assert_close(found, torch.stack([gradients[number] for gradients in each]))


@pytest.mark.engines
@pytest.mark.parametrize(("router", "batch", "dtype"), [("fm", 128, torch.float32), ("dynamic3", 32, torch.float64)])
def test_double_backward_of_a_large_layer(router: str, batch: int, dtype: torch.dtype) -> None:
    poses, activations = torch.randn(batch, 1152, 8, dtype=dtype), torch.rand(batch, 1152, dtype=dtype)
    found = []
    for implementation in ("auto", "plain"):
        torch.manual_seed(0)
        factory = partial(ROUTERS[router], implementation=implementation)
        layer = CapsuleLayer(FullTransform(1152, 10, 8, 16), factory, vote_norm="shared").to(dtype)
        found.append(second(layer, poses.clone(), activations))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() <= (1e-4 if dtype == torch.float32 else 1e-9) * theirs.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "half"])
@table()
def test_sixteen_bits(place: Place, dtype: torch.dtype) -> None:
    layer = make(place, dtype=dtype)
    wide = copy.deepcopy(layer).float()
    parents, expected = (
        layer(Capsules(*inputs(dtype=dtype))),
        wide(Capsules(*(part.float() for part in inputs(dtype=dtype)))),
    )
    for ours, theirs in zip(parents, expected, strict=True):
        assert ours.dtype == dtype
        assert (ours.float() - theirs).abs().max() <= 0.05 * theirs.abs().max()
    weigh(parents).backward()
    weight = layer.transform.weight
    assert weight.grad is not None
    assert weight.grad.dtype == dtype
    assert torch.isfinite(weight.grad).all()
    for name, buffer in layer.named_buffers():
        if buffer.is_floating_point():  # routing normalises in float32
            assert buffer.dtype == (torch.float32 if name.startswith("router.") else dtype), name


def test_sixteen_bits_train() -> None:
    layer = make(("fm", "auto", "shared"), dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        error = (layer(Capsules(*inputs(dtype=torch.bfloat16))).activations - 1).square().mean()
        error.backward()
        optimizer.step()
        losses.append(error.item())
    assert losses[-1] < 0.5 * losses[0]


def test_sixteen_bits_that_overflow_are_an_error() -> None:
    layer = make(("fm_raw", "fused", "none"), dtype=torch.float16)
    poses, activations = inputs(dtype=torch.float16)
    with pytest.raises(NonFiniteError, match=r"finite votes .* overflowed"):
        layer(Capsules(1000 * poses, activations))


@table()
def test_empty_batch(place: Place) -> None:
    for training in (True, False):
        layer = make(place).train(training)
        before = copy.deepcopy(dict(layer.named_buffers()))
        parents = layer(Capsules(*inputs(0)))
        assert parents.poses.shape == (0, PARENTS, 6)
        weigh(parents).backward()
        torch.testing.assert_close(dict(layer.named_buffers()), before)
        for name, weight in layer.named_parameters():
            assert weight.grad is None or not weight.grad.any(), name


@table()
def test_least_sizes(place: Place) -> None:
    for (children, parents), training in itertools.product(((1, 1), (1, PARENTS), (CHILDREN, 1)), (True, False)):
        layer = make(place, children=children, parents=parents).train(training)
        found = layer(Capsules(*inputs(children=children)))
        weigh(found).backward()
        assert found.poses.shape == (4, parents, 6)
        assert all(torch.isfinite(weight.grad).all() for weight in layer.parameters() if weight.grad is not None)


@table()
def test_deepcopy_and_pickle(place: Place) -> None:
    layer = make(place)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = gradients(layer, *inputs())
    for each in copies:
        torch.testing.assert_close(gradients(each, *inputs()), expected)


@table()
def test_data_parallel(place: Place, replica: Callable[[nn.Module], nn.Module]) -> None:
    layer = make(place)
    expected = gradients(layer, *inputs())
    weigh(replica(make_parallel := make(place))(Capsules(*inputs()))).backward()
    for name, weight in make_parallel.named_parameters():
        torch.testing.assert_close(torch.zeros_like(weight) if weight.grad is None else weight.grad, expected[name])
    torch.testing.assert_close(nn.DataParallel(make(place))(Capsules(*inputs())), layer(Capsules(*inputs())))


@pytest.mark.parametrize(
    "transformed",
    [grad, lambda of: lambda x: vmap(of)(x.unsqueeze(0)), lambda of: lambda x: jvp(of, (x,), (x,))],
    ids=["grad", "vmap", "jvp"],
)
@pytest.mark.parametrize("place", [("fm", "auto", "shared"), ("vb", "plain", "none")], ids=["votes", "vb"])
def test_statistics_do_not_change_within_torch_func(place: Place, transformed: Callable[..., Any]) -> None:
    layer = make(place)
    poses, activations = inputs()
    with pytest.raises(RuntimeError, match=r"^batch norm in training .*; call \.eval\(\) first, or pass .*\Z"):
        transformed(lambda poses: weigh(layer(Capsules(poses, activations))))(poses)


def test_statistics_that_are_arguments_change_within_torch_func() -> None:
    layer = make(("fm", "auto", "shared"))

    def of(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(layer, weights | buffers, *inputs()), buffers

    found, buffers = grad(of, has_aux=True)(dict(layer.named_parameters()), copy.deepcopy(dict(layer.named_buffers())))
    trained = make(("fm", "auto", "shared"))
    torch.testing.assert_close(found, gradients(trained, *inputs()))
    torch.testing.assert_close(buffers, dict(trained.named_buffers()))


def test_the_finite_check_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make(("fm", "auto", "none")), make(("dynamic3", "auto", "none"))
    bad = Capsules(torch.full((2, CHILDREN, 4), torch.nan, dtype=torch.float64), torch.ones(2, CHILDREN))
    first.router.check_finite = False
    assert first(bad).poses.isnan().all()
    with pytest.raises(NonFiniteError):
        second(bad)
    monkeypatch.setattr(Router, "check_finite", False)
    assert second(bad).poses.isnan().all()
