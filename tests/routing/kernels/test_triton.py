"""The Triton kernels, in Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys

import pytest
import torch

from capsbench.routing import LazyVotes
from capsbench.routing import vote_sums as reference

pytest.importorskip("triton")
from capsbench.routing.kernels import triton
from capsbench.routing.kernels.triton import vote_sums

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {  # batch, child, row, inner, parent, column
    "full 8 to 16": (5, 7, 1, 8, 3, 16),
    "one of each": (1, 1, 1, 1, 1, 1),
    "matrix 16 with a constant 1": (20, 3, 4, 5, 2, 4),
    "matrix 9": (3, 2, 3, 3, 2, 3),
    "many examples": (70, 5, 1, 8, 2, 64),
    "matrix 64": (2, 2, 8, 9, 2, 8),
}


def factors(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    batch, child, row, inner, parent, column = shape
    generator = torch.Generator().manual_seed(0)
    children = torch.randn(batch, child, row, inner, generator=generator)
    weight = torch.randn(child, parent, inner, row, column, generator=generator)
    return tuple(part.to(DEVICE, dtype).requires_grad_() for part in (children, weight))  # type: ignore[return-value]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_same_as_all_votes_in_float64(shape: tuple[int, ...], normalize: bool) -> None:
    check_against_float64(shape, normalize)


@pytest.mark.parametrize("normalize", [True, False])
def test_programs_that_sum_several_children(monkeypatch: pytest.MonkeyPatch, normalize: bool) -> None:
    monkeypatch.setattr(triton, "PROGRAMS", 8)  # 11 children: 6 in the first part, 5 in the second
    check_against_float64((3, 11, 1, 4, 4, 4), normalize)


def check_against_float64(shape: tuple[int, ...], normalize: bool) -> None:
    """Compare sums and gradients with those of all votes at once in float64."""
    ours = factors(shape, torch.float32)
    sums = vote_sums(LazyVotes(*ours), normalize)
    exact = factors(shape, torch.float64)
    expected = reference(LazyVotes(*exact).materialize(), normalize)
    for our, their in zip(sums, expected, strict=True):
        assert (our - their).abs().max() <= 1e-5 * their.abs().max() + 1e-6

    seeds = [torch.randn(part.shape, dtype=torch.float64, device=DEVICE) for part in expected]
    gradients = torch.autograd.grad(sums, ours, [seed.float() for seed in seeds])
    for our, their in zip(gradients, torch.autograd.grad(expected, exact, seeds), strict=True):
        assert (our - their).abs().max() <= 1e-4 * their.abs().max() + 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    ours = factors(SHAPES["full 8 to 16"], dtype)
    sums = vote_sums(LazyVotes(*ours), True)
    widened = [part.detach().float().requires_grad_() for part in ours]
    expected = vote_sums(LazyVotes(*widened), True)
    for our, their in zip(sums, expected, strict=True):
        assert our.dtype == torch.float32
        torch.testing.assert_close(our, their)
    gradients = torch.autograd.grad(sums[0].sum(), ours)
    for our, their in zip(gradients, torch.autograd.grad(expected[0].sum(), widened), strict=True):
        assert our.dtype == dtype
        torch.testing.assert_close(our, their.to(dtype))


def test_votes_of_length_zero_add_nothing() -> None:
    children, weight = factors(SHAPES["full 8 to 16"], torch.float32)
    children = torch.zeros_like(children).requires_grad_()
    total, squares = vote_sums(LazyVotes(children, weight), True)
    assert not total.any()
    gradient = torch.autograd.grad((total.sum(), squares.sum()), children)[0]
    assert not gradient.any()


def test_second_derivative_is_refused_clearly() -> None:
    children, weight = factors(SHAPES["full 8 to 16"], torch.float32)
    total, _ = vote_sums(LazyVotes(children, weight), True)
    with pytest.raises(RuntimeError, match="no second derivative; take implementation"):
        torch.autograd.grad(total.sum(), children, create_graph=True)


COMPILE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from capsbench.routing.kernels.triton import _backward, _forward

for kernel in (_forward, _backward):
    constants = dict(R=4, D=5, Z=4, DP=32, KP=16, BB=64, NORMALIZE=True, PRECISION="tf32x3", DTYPE=tl.float32)
    names = [name for name in kernel.arg_names if name not in constants]
    numbers = ("B", "n", "J", "children_each")
    signature = {name: "i32" if name in numbers else "*fp32" for name in names} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert ".local" not in made.asm["ptx"], "registers are spilled"
"""


def test_compiles_for_an_h100() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
