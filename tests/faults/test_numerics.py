"""Hard numbers: values and gradients are finite, or one error says what overflowed."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from capsbench.capsules import DeconvDecoder, DenseDecoder
from capsbench.capsules.normalization import VoteNorm
from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    NonFiniteError,
    RouterFactory,
    VBRouting,
    exp_squash,
    l2_normalize,
    make_router,
    squash,
    squashed_norm,
)
from capsbench.training import CrossEntropyLoss, MarginLoss, SpreadLoss

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Kind = Callable[[Tensor], Tensor]


def largest(like: Tensor) -> float:
    return min(1e30, 0.9 * torch.finfo(like.dtype).max)


KINDS: dict[str, Kind] = {
    "ordinary": lambda x: x,
    "zeros": torch.zeros_like,
    "equal": torch.ones_like,
    "nearly equal": lambda x: 1 + 1e-3 * x,
    "tiny": lambda x: 1e-30 * x,
    "denormal": lambda x: x.sign() * torch.finfo(x.dtype).tiny * torch.finfo(x.dtype).eps,
    "small": lambda x: 1e-6 * x,
    "large": lambda x: 1e3 * x,
    "huge": lambda x: largest(x) * x.sign(),
    "one that is not zero": lambda x: x * (torch.arange(x.numel()).view_as(x) == 0),
    "half zeros": lambda x: x * (torch.arange(x.numel()).view_as(x) % 2),
    "from tiny to large": lambda x: x * torch.logspace(-30, 3, x.numel(), dtype=torch.float64).view_as(x).to(x.dtype),
}
"""Inputs made of ordinary ones."""
FEW = ("ordinary", "zeros", "equal", "tiny", "huge")
OF_ACTIVATIONS = ("ordinary", "zeros", "tiny", "small")
MAY_OVERFLOW = {"huge", "large"}
SHAPES = {"usual": (2, 7, 3, 4), "one child": (2, 1, 3, 4), "one parent": (2, 7, 1, 4), "one example": (1, 7, 3, 4)}
ROUTERS: dict[str, RouterFactory] = {
    "fm": FMAgreement,
    "fm_raw": partial(FMAgreement, scale=1.0, normalize_votes=False),
    "fm_squash": partial(FMAgreement, scale=1.0, normalize_pose=False, output="squash"),
    "dynamic1": partial(DynamicRouting, iterations=1),
    "dynamic": DynamicRouting,
    "dynamic, detached": partial(DynamicRouting, detach=True),
    "dynamic, leaky": partial(DynamicRouting, leaky=True),
    "em1": partial(EMRouting, iterations=1),
    "em2": partial(EMRouting, iterations=2),
    "em": EMRouting,
    "attention": AttentionRouting,
    "inverted attention": InvertedAttention,
    "vb": VBRouting,
    "hit or miss": HitOrMiss,
}
LOSSES: dict[str, nn.Module] = {
    "margin": MarginLoss(),
    "spread": SpreadLoss(),
    "cross entropy": CrossEntropyLoss(),
    "cross entropy of shares": CrossEntropyLoss(normalize=True),
    "cross entropy, learned": CrossEntropyLoss(scale="learned"),
}


def drawn(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def fault(function: Callable[..., Any], *inputs: Tensor, may_overflow: bool = False) -> str | None:
    """What is not finite; None if all is, or if an error says that an input overflowed."""
    leaves = [values.detach().clone().requires_grad_() for values in inputs]
    try:
        outputs = function(*leaves)
    except NonFiniteError as error:
        return None if may_overflow and "overflowed" in str(error) else str(error)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if not all(torch.isfinite(output).all() for output in outputs):
        return "value"
    wanted = [*leaves, *(function.parameters() if isinstance(function, nn.Module) else ())]
    gradients = torch.autograd.grad(sum(output.sum() for output in outputs), wanted, allow_unused=True)
    if not all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None):
        return "gradient"
    return None


def faults_of_a_router(
    name: str, dtype: torch.dtype, autocast: bool, kinds: tuple[str, ...], shapes: tuple[str, ...]
) -> Iterator[str]:
    """The cases in which a router goes wrong. Only EM and VB read activations."""
    of_activations = OF_ACTIVATIONS if name.startswith(("em", "vb")) else ("ordinary",)
    for shape, kind, activity in itertools.product(shapes, kinds, of_activations):
        batch, children, parents, dim = SHAPES[shape]
        torch.manual_seed(1)
        place = {"num_children": children, "num_parents": parents, "pose_dim": dim, "feeds_capsules": False}
        router = make_router(ROUTERS[name], **place)
        votes = KINDS[kind](drawn(*SHAPES[shape], dtype=dtype))
        activations = KINDS[activity](drawn(batch, children, dtype=dtype).abs().clamp_max(1)).abs()
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            found = fault(router, votes, activations, may_overflow=bool({kind, activity} & MAY_OVERFLOW))
        if found is not None:
            yield f"{shape}, votes {kind}, activations {activity}: {found}"


@pytest.mark.parametrize(("dtype", "autocast"), [*((dtype, False) for dtype in DTYPES), ("float32", True)])
@pytest.mark.parametrize("router", ROUTERS)
def test_routers(router: str, dtype: str, autocast: bool) -> None:
    assert not list(faults_of_a_router(router, DTYPES[dtype], autocast, FEW, ("usual",)))


@pytest.mark.faults
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("router", ROUTERS)
def test_routers_in_every_case(router: str, dtype: str) -> None:
    assert not list(faults_of_a_router(router, DTYPES[dtype], False, tuple(KINDS), tuple(SHAPES)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["zeros", "tiny"])
def test_the_gradient_of_em_is_small_where_children_are_off(kind: str, dtype: str) -> None:
    votes = drawn(*SHAPES["usual"], dtype=DTYPES[dtype]).requires_grad_()
    activations = KINDS[kind](drawn(2, 7, dtype=DTYPES[dtype])).abs().requires_grad_()
    parents = EMRouting(3)(votes, activations)
    gradients = torch.autograd.grad(parents.poses.sum() + parents.activations.sum(), [votes, activations])
    assert all(gradient.abs().max() < 1000 for gradient in gradients)


def test_votes_whose_variance_overflows_are_named() -> None:
    votes = drawn(*SHAPES["usual"], dtype=torch.float32) * 1e30
    with pytest.raises(NonFiniteError, match=r"finite votes \(largest magnitude .*e\+30\) overflowed"):
        EMRouting(3, 1)(votes, torch.ones(2, 7))


FUNCTIONS = {"squash": squash, "squashed_norm": squashed_norm, "l2_normalize": l2_normalize, "exp_squash": exp_squash}


@pytest.mark.parametrize("dtype", ["float64", "float32"])  # routers compute in these only
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_vectors(function: str, dtype: str) -> None:
    kinds = [kind for kind in KINDS if kind not in MAY_OVERFLOW or dtype == "float64"]
    found = {kind: fault(FUNCTIONS[function], KINDS[kind](drawn(3, 8, dtype=DTYPES[dtype]))) for kind in kinds}
    assert not [kind for kind, what in found.items() if what]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("examples", [1, 4])
@pytest.mark.parametrize("dtype", ["float64", "float32"])  # see test_losses_are_computed_in_32_bits
@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss: str, dtype: str, examples: int, classes: int) -> None:
    labels = torch.arange(examples) % classes
    found = {}
    for kind in KINDS:
        if kind != "huge" or dtype == "float64":
            activations = KINDS[kind](drawn(examples, classes, dtype=DTYPES[dtype]))
            function = partial(_loss, LOSSES[loss].to(DTYPES[dtype]), labels)
            found[kind] = fault(function, activations)
    assert not [kind for kind, what in found.items() if what]


def _loss(loss: nn.Module, labels: Tensor, activations: Tensor) -> Tensor:
    return loss(activations, labels, 0.5)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("examples", [2, 4])
@pytest.mark.parametrize("decoder", [DeconvDecoder, DenseDecoder])
def test_decoders(decoder: Any, examples: int, dtype: str) -> None:
    torch.manual_seed(1)
    network = decoder((1, 8, 8), 3, 4).to(DTYPES[dtype])
    chosen = torch.zeros(examples, 1, dtype=torch.int64)
    found = {}
    for kind in KINDS:
        if kind != "huge":  # poses are no longer than 1, or those of votes
            found[kind] = fault(
                lambda poses: network(poses, chosen), KINDS[kind](drawn(examples, 3, 4, dtype=DTYPES[dtype]))
            )
    assert not [kind for kind, what in found.items() if what]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["shared", "per_vote"])
def test_normalised_votes(kind: Any, dtype: str) -> None:
    norm = VoteNorm(7, 3, 4, kind, gain=1.0).to(DTYPES[dtype])
    kinds = [name for name in KINDS if name not in MAY_OVERFLOW]
    found = {name: fault(norm, KINDS[name](drawn(*SHAPES["usual"], dtype=DTYPES[dtype]))) for name in kinds}
    assert not [name for name, what in found.items() if what]
