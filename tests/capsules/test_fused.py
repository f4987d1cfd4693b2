"""Capsule layers that never hold all votes: the same numbers as those that do."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from capsbench.capsules import CapsuleLayer, FullTransform, MatrixTransform, VoteNormKind
from capsbench.routing import Capsules, DynamicRouting, EMRouting, FMAgreement
from capsbench.routing import votes as lazy

ROUTERS = {
    "fm": FMAgreement,
    "fm of votes of any length": partial(FMAgreement, normalize_votes=False),
    "dynamic1": partial(DynamicRouting, iterations=1),
    "dynamic3": DynamicRouting,
    "dynamic3 detached": partial(DynamicRouting, detach=True),
    "em1": partial(EMRouting, iterations=1),
    "em3": EMRouting,
}
TRANSFORMS: dict[str, Callable[[], FullTransform | MatrixTransform]] = {
    "full 8 to 16": lambda: FullTransform(7, 3, 8, 16),
    "full 5 to 6, one child": lambda: FullTransform(1, 4, 5, 6),
    "matrix 4": lambda: MatrixTransform(5, 3, 4),
    "matrix 9": lambda: MatrixTransform(11, 2, 9),
    "matrix 64": lambda: MatrixTransform(3, 2, 64),
}
BATCH = 4
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")),
]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a block holds two or three children, and the last is not full."""
    for kind in lazy.BLOCK_BYTES:
        monkeypatch.setitem(lazy.BLOCK_BYTES, kind, 3000)


def layer(
    transform: str, router: str, vote_norm: VoteNormKind, implementation: str, dtype: torch.dtype = torch.float64
) -> CapsuleLayer:
    torch.manual_seed(0)
    made = CapsuleLayer(
        TRANSFORMS[transform](), partial(ROUTERS[router], implementation=implementation), vote_norm=vote_norm
    )
    for parameter in made.parameters():
        if parameter.ndim == 1:  # β and γ: not all the same
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return made.to(dtype)


def children(transform: str, dtype: torch.dtype = torch.float64) -> Capsules:
    module = TRANSFORMS[transform]()
    dim = module.weight.shape[2] if isinstance(module, FullTransform) else module.pose_dim
    generator = torch.Generator().manual_seed(1)
    poses = torch.randn(BATCH, len(module.weight), dim, generator=generator, dtype=torch.float64)
    activations = torch.rand(BATCH, len(module.weight), generator=generator, dtype=torch.float64)
    return Capsules(poses.to(dtype).requires_grad_(), activations.to(dtype).requires_grad_())


def predict(made: CapsuleLayer, given: Capsules) -> tuple[list[Tensor], list[Tensor]]:
    """What the layer gives, and every gradient of something that depends on all of it; zeros where none flows."""
    parents = made(given)
    numbers = torch.arange(1.0, 1 + parents.poses.shape[-1], device=parents.poses.device)
    loss = (parents.poses.sin() * numbers).sum() + parents.activations.exp().sum()
    sources = [*given, *made.parameters()]
    gradients = torch.autograd.grad(loss, sources, allow_unused=True)
    return list(parents), [torch.zeros_like(s) if g is None else g for s, g in zip(sources, gradients, strict=True)]


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest of the tensors' errors, each relative to its largest element."""
    errors = [
        (our.double().cpu() - their).abs().max() / (their.abs().max() + 1e-12)
        for our, their in zip(ours, theirs, strict=True)
    ]
    return max(errors).item()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("vote_norm", ["none", "shared", "per_vote"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("implementation", ["fused", "auto"])
def test_same_as_plain(
    implementation: str, router: str, transform: str, vote_norm: VoteNormKind, training: bool
) -> None:
    plain, ours = (layer(transform, router, vote_norm, name).train(training) for name in ("plain", implementation))
    given = children(transform)
    (parents, gradients), (our_parents, our_gradients) = predict(plain, given), predict(ours, given)
    assert distance(our_parents, parents) <= 1e-10
    assert distance(our_gradients, gradients) <= 1e-9
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("transform", ["full 8 to 16", "matrix 9"])
@pytest.mark.parametrize("router", ROUTERS)
def test_float32_is_near_float64(router: str, transform: str, device: str) -> None:
    """Or, where the problem itself loses more digits (EM's variances), as near as where all votes are held."""
    parents, gradients = predict(layer(transform, router, "shared", "plain"), children(transform))
    plain = predict(layer(transform, router, "shared", "plain", torch.float32), children(transform, torch.float32))
    single = layer(transform, router, "shared", "fused", torch.float32).to(device)
    poses, activations = (part.detach().to(device).requires_grad_() for part in children(transform, torch.float32))
    our_parents, our_gradients = predict(single, Capsules(poses, activations))
    assert distance(our_parents, parents) <= max(1e-5, 2 * distance(plain[0], parents))
    assert distance(our_gradients, gradients) <= max(1e-4, 2 * distance(plain[1], gradients))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_children_are_summed_in_float32(dtype: torch.dtype) -> None:
    made = layer("full 8 to 16", "fm", "shared", "fused", torch.float32)
    given = children("full 8 to 16", torch.float32)
    halved = Capsules(given.poses.detach().to(dtype).requires_grad_(), given.activations.detach().to(dtype))
    with torch.autocast("cpu", dtype=dtype):
        parents = made(halved)
    expected = made(Capsules(halved.poses.float(), halved.activations.float()))
    assert parents.poses.dtype == torch.float32
    torch.testing.assert_close(parents.poses, expected.poses)
    parents.activations.sum().backward()
    assert halved.poses.grad is not None
    assert halved.poses.grad.dtype == dtype


@pytest.mark.parametrize("router", ["fm", "dynamic3", "em3"])
def test_gradcheck(router: str) -> None:
    made = layer("matrix 4", router, "shared", "fused")
    given = children("matrix 4")

    def parents(poses: Tensor, activations: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        names = [name for name, _ in made.named_parameters()]
        return torch.func.functional_call(made, dict(zip(names, weights, strict=True)), (Capsules(poses, activations),))

    assert torch.autograd.gradcheck(parents, (*given, *made.parameters()))


@pytest.mark.parametrize("router", ["fm", "dynamic3", "em3"])
def test_second_derivative_is_refused_clearly(router: str) -> None:
    given = children("full 8 to 16")
    activations = layer("full 8 to 16", router, "none", "fused")(given).activations
    with pytest.raises(RuntimeError, match="no second derivative; take router"):
        torch.autograd.grad(activations.sum(), given.poses, create_graph=True)


class Largest(TorchDispatchMode):
    """The most elements that any tensor had that an operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and not tensor._is_view():
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("router", ROUTERS)
def test_never_holds_all_votes(router: str) -> None:
    made = CapsuleLayer(
        FullTransform(64, 5, 4, 16), partial(ROUTERS[router], implementation="fused"), vote_norm="shared"
    )
    poses = torch.randn(100, 64, 4, requires_grad=True)
    votes = 100 * 64 * 5 * 16
    with Largest() as largest:
        made(Capsules(poses, torch.rand(100, 64))).poses.sum().backward()
    assert largest.elements <= 0.1 * votes


class Loudest(FMAgreement):
    """A router of a user's, made from ours: the parent is the longest vote."""

    def route(self, votes: Tensor, activations: Tensor | None = None) -> Capsules:
        longest = votes.norm(dim=-1).argmax(dim=1, keepdim=True)
        poses = votes.gather(1, longest.unsqueeze(-1).expand(-1, -1, -1, votes.shape[-1])).squeeze(1)
        return Capsules(poses, poses.norm(dim=-1))


def test_a_router_that_overrides_route_gets_votes() -> None:
    made = CapsuleLayer(FullTransform(7, 3, 8, 16), Loudest)
    parents = made(Capsules(torch.randn(2, 7, 8), torch.rand(2, 7)))
    assert parents.poses.shape == (2, 3, 16)


def test_a_router_without_a_fused_implementation_says_so() -> None:
    with pytest.raises(ValueError, match="Loudest has no fused implementation; take router"):
        Loudest(implementation="fused")


def test_one_vote_has_no_variance() -> None:
    made = CapsuleLayer(FullTransform(2, 2, 4, 4), partial(FMAgreement, implementation="fused"), vote_norm="per_vote")
    with pytest.raises(ValueError, match="more than one example"):
        made(Capsules(torch.randn(1, 2, 4), torch.rand(1, 2)))
