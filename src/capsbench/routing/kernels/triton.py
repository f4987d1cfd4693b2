"""FM agreement's sums over children on a GPU: two Triton kernels that keep votes in registers.

A child has d = R·D dimensions (R rows of D), a parent k = R·Z. A vote is the child times a matrix (d, k) with R blocks
(D, Z) on its diagonal. The kernels read the blocks and fill in the zeros around them.
"""

from functools import partial
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.kernels.pairs import plain_sums
from capsbench.routing.kernels.recompute import gradients_again, stores_all
from capsbench.routing.votes import LazyVotes

FEWEST = 16
"""The shortest side of a matrix that a tensor core multiplies."""
PROGRAMS = 512
"""About how many programs fill the multiprocessors of a GPU several times."""


@triton.jit
@no_type_check
def _weight_offsets(i, j, J, R: tl.constexpr, D: tl.constexpr, Z: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr):
    """Offsets of a pair's matrix (DP, KP) in weight (child, parent, D, R, Z), and a mask of its blocks."""
    c = tl.arange(0, DP)[:, None]
    k = tl.arange(0, KP)[None, :]
    offsets = (((i * J + j) * D + c % D) * R + k // Z) * Z + k % Z
    return offsets, (c < R * D) & (k < R * Z) & (c // D == k // Z)


@triton.jit
@no_type_check
def _child_offsets(b, B, i, n, d: tl.constexpr, DP: tl.constexpr):
    """Offsets of child i of examples b in children (batch, child, d), and a mask of those that exist."""
    c = tl.arange(0, DP)[None, :]
    return (b[:, None] * n + i) * d + c, (b[:, None] < B) & (c < d)


@triton.jit
@no_type_check
def _unit_votes(u, w, NORMALIZE: tl.constexpr, PRECISION: tl.constexpr):
    """Votes (batch, dim) divided by their lengths, and 1/length; both undivided if not NORMALIZE."""
    v = tl.dot(u, w, input_precision=PRECISION, out_dtype=u.dtype)
    inverse = tl.full((v.shape[0], 1), 1.0, v.dtype)
    if NORMALIZE:
        length = tl.sqrt(tl.sum(v * v, axis=1, keep_dims=True))
        inverse = tl.where(length < 1e-12, 0.0, 1.0 / tl.where(length < 1e-12, 1.0, length))
    return v * inverse, inverse


@triton.jit
@no_type_check
def _forward(
    children, weight, total, squares, B, n, J, children_each,
    R: tl.constexpr, D: tl.constexpr, Z: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr, BB: tl.constexpr,
    NORMALIZE: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Sum over a part of the children, for some examples and one parent."""
    b = tl.program_id(0).to(tl.int64) * BB + tl.arange(0, BB)
    j = tl.program_id(1)
    part = tl.program_id(2)
    sum_of_votes = tl.zeros((BB, KP), DTYPE)
    sum_of_squares = tl.zeros((BB, KP), DTYPE)
    for i in range(part * children_each, min(n, (part + 1) * children_each)):
        at, inside = _child_offsets(b, B, i, n, R * D, DP)
        u = tl.load(children + at, inside, 0.0).to(DTYPE)
        at, inside = _weight_offsets(i, j, J, R, D, Z, DP, KP)
        w = tl.load(weight + at, inside, 0.0).to(DTYPE)
        v, _ = _unit_votes(u, w, NORMALIZE, PRECISION)
        sum_of_votes += v
        sum_of_squares += v * v
    k = tl.arange(0, KP)[None, :]
    at = ((part * B + b[:, None]) * J + j) * (R * Z) + k
    inside = (b[:, None] < B) & (k < R * Z)
    tl.store(total + at, sum_of_votes, inside)
    tl.store(squares + at, sum_of_squares, inside)


@triton.jit
@no_type_check
def _backward(
    children, weight, by_total, by_squares, by_children, by_weight, B, n, J,
    R: tl.constexpr, D: tl.constexpr, Z: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr, BB: tl.constexpr,
    NORMALIZE: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of one child and of its weights, from some examples."""
    i = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    b = part * BB + tl.arange(0, BB)
    k = tl.arange(0, KP)[None, :]
    at_u, inside_u = _child_offsets(b, B, i, n, R * D, DP)
    u = tl.load(children + at_u, inside_u, 0.0).to(DTYPE)
    du = tl.zeros((BB, DP), DTYPE)
    for j in range(J):
        at_w, inside_w = _weight_offsets(i, j, J, R, D, Z, DP, KP)
        w = tl.load(weight + at_w, inside_w, 0.0).to(DTYPE)
        v, inverse = _unit_votes(u, w, NORMALIZE, PRECISION)
        at = (b[:, None] * J + j) * (R * Z) + k
        inside = (b[:, None] < B) & (k < R * Z)
        dv = tl.load(by_total + at, inside, 0.0) + 2.0 * v * tl.load(by_squares + at, inside, 0.0)
        if NORMALIZE:
            dv = (dv - v * tl.sum(dv * v, axis=1, keep_dims=True)) * inverse
        du += tl.dot(dv, tl.trans(w), input_precision=PRECISION, out_dtype=DTYPE)
        dw = tl.dot(tl.trans(u), dv, input_precision=PRECISION, out_dtype=DTYPE)
        tl.store(by_weight + part * n * J * D * R * Z + at_w, dw, inside_w)
    tl.store(by_children + at_u, du, inside_u)


def vote_sums(
    votes: LazyVotes, normalize: bool
) -> tuple[Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent dim"]]:
    """Compute `capsbench.routing.vote_sums` in float32, of poses and weights in float32, float16 or bfloat16."""
    return _vote_sums(votes.children.contiguous(), votes.weight.contiguous(), normalize)


@torch.library.custom_op("capsbench::vote_sums", mutates_args=())
def _vote_sums(children: Tensor, weight: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    batch, num_children, num_parents, dim = LazyVotes(children, weight).shape
    constants = _constants(children, weight, normalize, most_examples=64)
    programs = triton.cdiv(batch, constants["BB"]) * num_parents
    children_each = max(1, triton.cdiv(num_children * programs, PROGRAMS))
    parts = triton.cdiv(num_children, children_each)
    total, squares = (children.new_empty(parts, batch, num_parents, dim, dtype=torch.float32) for _ in range(2))
    grid = (triton.cdiv(batch, constants["BB"]), num_parents, parts)
    _forward[grid](
        children, weight, total, squares, batch, num_children, num_parents, children_each, **constants, num_warps=4
    )
    return total.sum(dim=0), squares.sum(dim=0)


@_vote_sums.register_fake
def _(children: Tensor, weight: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    batch, _, num_parents, dim = LazyVotes(children, weight).shape
    total, squares = (children.new_empty(batch, num_parents, dim, dtype=torch.float32) for _ in range(2))
    return total, squares


@torch.library.custom_op("capsbench::vote_sums_backward", mutates_args=())
def _vote_sums_backward(
    by_total: Tensor, by_squares: Tensor, children: Tensor, weight: Tensor, normalize: bool
) -> tuple[Tensor, Tensor]:
    batch, num_children, num_parents, _ = LazyVotes(children, weight).shape
    constants = _constants(children, weight, normalize, most_examples=128)
    while constants["BB"] > FEWEST and num_children * triton.cdiv(batch, constants["BB"]) < PROGRAMS:
        constants["BB"] //= 2
    parts = triton.cdiv(batch, constants["BB"])
    by_children = torch.empty_like(children)
    by_weight = weight.new_empty(parts, *weight.shape, dtype=weight.dtype if parts == 1 else torch.float32)
    _backward[num_children, parts](
        children, weight, by_total.contiguous(), by_squares.contiguous(), by_children, by_weight,
        batch, num_children, num_parents, **constants, num_warps=4,
    )  # fmt: skip
    return by_children, by_weight[0] if parts == 1 else by_weight.sum(dim=0).to(weight.dtype)


@_vote_sums_backward.register_fake
def _(by_total: Tensor, by_squares: Tensor, children: Tensor, weight: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(children), torch.empty_like(weight)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Any) -> None:
    children, weight, ctx.normalize = inputs
    ctx.save_for_backward(children, weight)


def _gradient(ctx: Any, by_total: Tensor, by_squares: Tensor) -> tuple[Tensor | None, ...]:
    if stores_all((by_total, by_squares)):
        compute = partial(plain_sums, normalize=ctx.normalize)
        return *gradients_again(compute, ctx.saved_tensors, ctx.needs_input_grad[:2], (by_total, by_squares)), None
    return *_vote_sums_backward(by_total, by_squares, *ctx.saved_tensors, ctx.normalize), None


_vote_sums.register_autograd(_gradient, setup_context=_setup_context)


def _constants(children: Tensor, weight: Tensor, normalize: bool, most_examples: int) -> dict[str, Any]:
    """What a kernel is compiled for. BB is the number of examples that a program handles at once."""
    _, _, inner, rows, columns = weight.shape
    child_dim, pose_dim = (max(FEWEST, triton.next_power_of_2(rows * side)) for side in (inner, columns))
    most_examples = min(most_examples, 2048 // max(child_dim, pose_dim))  # what fits into registers
    return {
        "R": rows,
        "D": inner,
        "Z": columns,
        "DP": child_dim,
        "KP": pose_dim,
        "BB": max(FEWEST, min(most_examples, triton.next_power_of_2(len(children)))),
        "NORMALIZE": normalize,
        "PRECISION": "tf32x3",  # three products on tensor cores: as exact as float32
        "DTYPE": tl.float32,
    }
