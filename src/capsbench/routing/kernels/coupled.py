"""One iteration of dynamic routing on a CPU, and its gradient written out."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from capsbench.routing.kernels.batch_last import Gradients, batch_first, batch_last, batch_last_blocks, sum_over_dims
from capsbench.routing.kernels.blocks import Contribution
from capsbench.routing.kernels.recompute import gradients_again, stores_all
from capsbench.routing.votes import LazyVotes


def coupled_sum(votes: LazyVotes, sum_of_v: Tensor, *, leaky: bool, detach: bool, plain: Contribution) -> tuple[Tensor]:
    """Compute Σ c û with memory for one block of votes, see `DynamicRouting`.

    Args:
        votes: (batch, child, parent, dim).
        sum_of_v: (batch, parent, dim); the logits are b = ⟨û, sum_of_v⟩.
        leaky, detach: as in `DynamicRouting`.
        plain: computes the same from all votes, for second derivatives.
    """
    return (_CoupledSum.apply(votes.children, votes.weight, sum_of_v, leaky, detach, plain),)


class _CoupledSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, children: Tensor, weight: Tensor, sum_of_v: Tensor, leaky: bool, detach: bool, plain: Contribution
    ) -> Tensor:
        ctx.leaky, ctx.detach, ctx.plain = leaky, detach, plain
        ctx.save_for_backward(children, weight, sum_of_v)
        sum_of_v = batch_last(sum_of_v, weight.shape[3])
        s = torch.zeros_like(sum_of_v)
        for block in batch_last_blocks(children, weight, num_spare=1):
            votes, (product,) = block.votes, block.spare
            c = _couple(votes, sum_of_v, leaky, product)
            s += votes.mul_(c).sum(dim=0)
        return batch_first(s)

    @staticmethod
    def backward(ctx: Any, by_s: Tensor) -> tuple[Tensor | None, ...]:
        """∂c = ⟨û, ∂s⟩, ∂b = c (∂c - Σ c ∂c) over parents, ∂û = c ∂s + ∂b sum_of_v, and ∂sum_of_v = Σ ∂b û."""
        children, weight, sum_of_v = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if stores_all((by_s,)):
            compute = partial(_plain, ctx.plain)
            return *gradients_again(compute, (children, weight, sum_of_v), wanted, (by_s,)), None, None, None
        sum_of_v, by_s = (batch_last(values, weight.shape[3]) for values in (sum_of_v, by_s))
        by_sum_of_v = torch.zeros_like(sum_of_v)
        found = Gradients(children, weight, wanted[:2])
        for block in batch_last_blocks(children, weight, num_spare=1):
            votes, (spare,) = block.votes, block.spare
            c = _couple(votes, sum_of_v, ctx.leaky, spare)
            if ctx.detach:
                found.fill(block, torch.mul(by_s, c, out=spare))
                continue
            c_by_c = c * sum_over_dims(torch.mul(votes, by_s, out=spare))
            by_b = c_by_c.addcmul_(c, c_by_c.sum(dim=3, keepdim=True), value=-1)
            torch.mul(by_s, c, out=spare).addcmul_(sum_of_v, by_b)
            found.fill(block, spare)
            by_sum_of_v += votes.mul_(by_b).sum(dim=0)
        return found.children, found.weight, batch_first(by_sum_of_v) if wanted[2] else None, None, None, None


def _couple(votes: Tensor, sum_of_v: Tensor, leaky: bool, spare: Tensor) -> Tensor:
    """Compute the coupling coefficients c (child, 1, 1, parent, batch)."""
    b = sum_over_dims(torch.mul(votes, sum_of_v, out=spare))
    return F.pad(b, (0, 0, 0, 1)).softmax(dim=3)[:, :, :, :-1] if leaky else b.softmax(dim=3)


def _plain(plain: Contribution, children: Tensor, weight: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    return plain(LazyVotes(children, weight).materialize(), *others)
