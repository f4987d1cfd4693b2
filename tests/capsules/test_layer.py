"""The capsule layer: the same parents whether or not it stores all votes."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from capsbench.capsules import CapsuleLayer, Capsules, FullTransform, MatrixTransform, RouterFactory, VoteNormKind
from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    LazyVotes,
    Router,
    VBRouting,
)
from capsbench.routing.kernels import blocks

ROUTERS = {
    "fm": FMAgreement,
    "fm of votes of any length": partial(FMAgreement, normalize_votes=False),
    "dynamic1": partial(DynamicRouting, iterations=1),
    "dynamic3": DynamicRouting,
    "dynamic3 detached": partial(DynamicRouting, detach=True),
    "em1": partial(EMRouting, iterations=1),
    "em3": EMRouting,
    "attention": AttentionRouting,
    "inverted attention": InvertedAttention,
    "vb": VBRouting,
    "hit or miss": HitOrMiss,
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
    """Make blocks of two or three children, of which the last is not full."""
    for kind in blocks.BLOCK_BYTES:
        monkeypatch.setitem(blocks.BLOCK_BYTES, kind, 3000)


def some_children() -> Capsules:
    return Capsules(torch.randn(4, 6, 16), torch.rand(4, 6))


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
@pytest.mark.parametrize("vote_norm", ["none", "shared", "per_vote"])
def test_children_to_parents(router: type[Router], vote_norm: str) -> None:
    layer = CapsuleLayer(MatrixTransform(6, 3, 16), router, vote_norm=vote_norm)
    parents = layer(some_children())
    assert parents.poses.shape == (4, 3, 16)
    assert parents.activations.shape == (4, 3)


def test_fm_hands_s_to_another_capsule_layer_and_a_unit_pose_to_a_decoder() -> None:
    last = CapsuleLayer(MatrixTransform(6, 3, 16), FMAgreement)
    hidden = CapsuleLayer(MatrixTransform(6, 3, 16), FMAgreement, feeds_capsules=True)
    hidden.load_state_dict(last.state_dict())
    given = some_children()
    torch.testing.assert_close(last(given).poses.norm(dim=-1), torch.ones(4, 3))
    torch.testing.assert_close(hidden(given).poses.sum(dim=-1), last(given).activations)


@pytest.mark.parametrize(("router", "gain"), [(FMAgreement, 1.0), (DynamicRouting, 0.25), (EMRouting, 1.0)])
def test_vote_gain_is_the_routers_unless_it_is_given(router: type[Router], gain: float) -> None:
    def gamma(**options: float) -> torch.Tensor:
        return CapsuleLayer(MatrixTransform(6, 3, 16), router, vote_norm="shared", **options).vote_norm.norm.weight

    torch.testing.assert_close(gamma(), torch.full((16,), gain))
    torch.testing.assert_close(gamma(vote_gain=0.5), torch.full((16,), 0.5))


def test_a_full_transform_takes_poses_of_any_size() -> None:
    layer = CapsuleLayer(FullTransform(6, 3, 8, 12), FMAgreement)
    assert layer(Capsules(torch.randn(4, 6, 8), torch.rand(4, 6))).poses.shape == (4, 3, 12)


def make_layer(
    transform: str,
    router: str,
    vote_norm: VoteNormKind,
    implementation: str,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> CapsuleLayer:
    torch.manual_seed(seed)
    made = CapsuleLayer(
        TRANSFORMS[transform](), partial(ROUTERS[router], implementation=implementation), vote_norm=vote_norm
    )
    for parameter in made.parameters():
        if parameter.ndim == 1:  # β and γ: not all the same
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return made.to(dtype)


def children(transform: str, dtype: torch.dtype = torch.float64, seed: int = 1) -> Capsules:
    module = TRANSFORMS[transform]()
    dim = module.weight.shape[2] if isinstance(module, FullTransform) else module.pose_dim
    generator = torch.Generator().manual_seed(seed)
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
    """The largest of the tensors' errors, each relative to its largest element.

    What vanishes, as the gradient of a shift before a batch norm does, is nothing but rounding, of the largest of all.
    """
    sizes = [their.abs().max() for their in theirs]
    largest = max(sizes) + 1e-12
    errors = [
        (our.double().cpu() - their).abs().max() / (size if size > 1e-8 * largest else largest)
        for our, their, size in zip(ours, theirs, sizes, strict=True)
    ]
    return float(max(errors).detach())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("vote_norm", ["none", "shared", "per_vote"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("implementation", ["fused", "auto"])
def test_same_as_plain(
    implementation: str, router: str, transform: str, vote_norm: VoteNormKind, training: bool
) -> None:
    plain, ours = (make_layer(transform, router, vote_norm, name).train(training) for name in ("plain", implementation))
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
    """Or, where the problem itself loses more digits (EM's variances), as near as where all votes are held.

    A single draw may lose many, by chance: medians of several are compared.
    """
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(7):
        exact = predict(make_layer(transform, router, "shared", "plain", seed=seed), children(transform, seed=seed))
        for implementation in ("plain", "fused"):
            single = make_layer(transform, router, "shared", implementation, torch.float32, seed).to(device)
            given = children(transform, torch.float32, seed)
            found = predict(single, Capsules(*(part.detach().to(device).requires_grad_() for part in given)))
            for what, ours, theirs in zip(("parents", "gradients"), found, exact, strict=True):
                errors[implementation, what].append(distance(ours, theirs))
    median = {key: statistics.median(values) for key, values in errors.items()}
    assert median["fused", "parents"] <= max(1e-5, 2 * median["plain", "parents"])
    assert median["fused", "gradients"] <= max(1e-5, 2 * median["plain", "gradients"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_children_are_summed_in_float32(dtype: torch.dtype) -> None:
    made = make_layer("full 8 to 16", "fm", "shared", "fused", torch.float32)
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
    made = make_layer("matrix 4", router, "shared", "fused")
    given = children("matrix 4")

    def parents(poses: Tensor, activations: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        names = [name for name, _ in made.named_parameters()]
        return torch.func.functional_call(made, dict(zip(names, weights, strict=True)), (Capsules(poses, activations),))

    assert torch.autograd.gradcheck(parents, (*given, *made.parameters()))


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation makes."""

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


@pytest.mark.parametrize("implementation", ["plain", "fused"])
@pytest.mark.parametrize("vote_norm", ["none", "shared"])
def test_hooks_of_the_transform_and_the_vote_norm_are_called(implementation: str, vote_norm: VoteNormKind) -> None:
    made = make_layer("full 8 to 16", "fm", vote_norm, implementation)
    called: list[str] = []
    parts = [("transform", made.transform), ("vote_norm", made.vote_norm)]
    if vote_norm != "none":
        parts.append(("batch norm", made.vote_norm.norm))
    for name, part in parts:
        for register in (
            part.register_forward_pre_hook,
            part.register_forward_hook,
            part.register_full_backward_pre_hook,
            part.register_full_backward_hook,
        ):
            handle = register(lambda *_, name=name: called.append(name))
            predict(made, children("full 8 to 16"))
            assert called == [name]
            called.clear()
            handle.remove()


@pytest.mark.parametrize("implementation", ["plain", "fused"])
def test_a_transform_is_pruned_whatever_the_implementation(implementation: str) -> None:
    made = make_layer("full 8 to 16", "fm", "none", implementation)
    prune.l1_unstructured(made.transform, "weight", 0.5)
    predict(made, children("full 8 to 16"))
    with torch.no_grad():
        made.transform.weight_orig.add_(1.0)
    expected = made.transform.weight_orig * made.transform.weight_mask
    predict(made, children("full 8 to 16"))  # again: the graph is a new one
    torch.testing.assert_close(made.transform.weight, expected)


class Mean(Router):
    """A user's router, which knows votes as a tensor only."""

    def route(self, votes: Tensor, activations: Tensor | None) -> Capsules:
        poses = votes.mean(dim=1)
        return Capsules(poses, poses.norm(dim=-1))


@pytest.mark.parametrize(
    ("router", "vote_norm", "batch", "in_training", "in_inference"),
    [
        (FMAgreement, "none", 31, Tensor, Tensor),
        (FMAgreement, "none", 32, LazyVotes, Tensor),  # 4 MB
        (FMAgreement, "none", 64, LazyVotes, LazyVotes),
        (partial(DynamicRouting, iterations=1), "none", 32, LazyVotes, Tensor),
        (DynamicRouting, "none", 63, Tensor, Tensor),
        (DynamicRouting, "none", 64, LazyVotes, LazyVotes),
        (DynamicRouting, "shared", 31, Tensor, Tensor),
        (DynamicRouting, "shared", 32, LazyVotes, LazyVotes),
    ],
)
def test_a_kernel_is_taken_from_as_many_votes_on_as_it_is_faster(
    router: RouterFactory, vote_norm: VoteNormKind, batch: int, in_training: type, in_inference: type
) -> None:
    layer = CapsuleLayer(MatrixTransform(64, 32, 16), router, vote_norm=vote_norm)
    seen: list[type] = []
    layer.router.register_forward_pre_hook(lambda _, given: seen.append(type(given[0])))
    poses = torch.randn(batch, 64, 16)
    trained = layer(poses)
    with torch.inference_mode():
        torch.testing.assert_close(layer(poses), trained)
    assert seen == [in_training, in_inference]


def test_few_examples_of_many_votes_are_not_all_stored() -> None:
    layer = CapsuleLayer(FullTransform(2400, 32, 1, 16), DynamicRouting)
    seen: list[type] = []
    layer.router.register_forward_pre_hook(lambda _, given: seen.append(type(given[0])))
    with torch.inference_mode():
        layer(torch.randn(8, 2400, 1))  # 39 MB
    assert seen == [LazyVotes]


@pytest.mark.parametrize(
    ("router", "vote_norm", "batch", "given"),
    [
        (FMAgreement, "none", 1, LazyVotes),
        (partial(DynamicRouting, iterations=1), "none", 1, LazyVotes),
        (FMAgreement, "shared", 2048, Tensor),  # 256 MB
        (FMAgreement, "shared", 2049, LazyVotes),
        (DynamicRouting, "none", 2048, Tensor),
        (DynamicRouting, "none", 2049, LazyVotes),
        (EMRouting, "shared", 2049, LazyVotes),
    ],
)
def test_a_gpu_stores_the_votes_until_they_need_much_memory(
    router: RouterFactory, vote_norm: VoteNormKind, batch: int, given: type
) -> None:
    layer = CapsuleLayer(MatrixTransform(64, 32, 16), router, vote_norm=vote_norm).eval()
    seen: list[type] = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        layer.to_empty(device="cuda")
        layer.router.register_forward_pre_hook(lambda _, inputs: seen.append(type(inputs[0])))
        layer(Capsules(torch.empty(batch, 64, 16), torch.empty(batch, 64)))
    assert issubclass(seen[0], given)


def test_a_router_without_lazy_votes_gets_a_tensor() -> None:
    assert CapsuleLayer(FullTransform(7, 3, 8, 16), Mean).double()(children("full 8 to 16")).poses.shape == (
        BATCH,
        3,
        16,
    )
