"""Sums of children that Gaussians share out, as EM and VB routing need them, on a CPU, with gradients written out."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from capsbench.routing.kernels.batch_last import Gradients, batch_first, batch_last, batch_last_blocks, sum_over_dims
from capsbench.routing.kernels.blocks import Contribution
from capsbench.routing.kernels.recompute import gradients_again, stores_all
from capsbench.routing.votes import LazyVotes


def assigned_sums(
    votes: LazyVotes, activations: Tensor, *others: Tensor, is_centred: bool, plain: Contribution
) -> tuple[Tensor, ...]:
    """Compute Σ w and Σ w û, or Σ w (û-μ)² about a centre μ, with memory for one block of votes.

    A child's weight is w = a·softmax(log_peak - Σ precision (û-mean)²), the softmax over parents.

    Args:
        votes: (batch, child, parent, dim).
        activations: a (batch, child).
        others: the centre (batch, parent, dim) if `is_centred`, then log_peak (batch, parent), mean and precision
            (batch, parent, dim), or none of the three for equal shares.
        is_centred: whether to sum squares about a centre.
        plain: computes the same from all votes, for second derivatives.

    Returns:
        (batch, parent) and (batch, parent, dim), or only (batch, parent, dim).
    """
    sums: tuple[Tensor, ...] = _AssignedSums.apply(
        plain, is_centred, votes.children, votes.weight, activations, *others
    )
    return sums


class _AssignedSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plain: Contribution, is_centred: bool, children: Tensor, weight: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.plain, ctx.is_centred = plain, is_centred
        ctx.save_for_backward(children, weight, *others)
        activations, centre, densities = _arranged(is_centred, weight.shape[3], others)
        mass: Any = 0
        total: Any = 0
        for block in batch_last_blocks(children, weight, num_spare=1):
            votes, (spare,) = block.votes, block.spare
            w = _shares(votes, densities, spare) * activations[block.part]
            if centre is not None:
                votes.sub_(centre).square_()
            mass = mass + w.sum(dim=0)
            total = total + votes.mul_(w).sum(dim=0)
        return (batch_first(total),) if is_centred else (_of_parents(mass), batch_first(total))

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        """With x = û, or (û-μ)² about a centre, and logit the argument of the softmax R:

        ∂w = ∂Σw + ⟨x, ∂Σwx⟩, ∂a = Σ R ∂w and ∂logit = R (a ∂w - Σ R a ∂w), both sums over parents,
        ∂log_peak = Σ ∂logit, ∂mean = 2 precision Σ ∂logit (û-mean), ∂precision = -Σ ∂logit (û-mean)²,
        ∂û = w ∂Σwx ∂x/∂û - 2 precision ∂logit (û-mean).
        """
        children, weight, *others = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if stores_all(seeds):
            compute = partial(_plain, ctx.plain)
            return None, None, *gradients_again(compute, (children, weight, *others), wanted, seeds)
        activations, centre, densities = _arranged(ctx.is_centred, weight.shape[3], others)
        by_total = batch_last(seeds[-1], weight.shape[3])
        by_mass = 0 if ctx.is_centred else _as_parents(seeds[0])
        found = Gradients(children, weight, wanted[:2])
        by_activations = torch.empty_like(activations)
        by_centre = torch.zeros_like(by_total)
        by_log_peak: Any = 0
        by_mean, by_precision = torch.zeros_like(by_total), torch.zeros_like(by_total)
        for block in batch_last_blocks(children, weight, num_spare=2):
            a = activations[block.part]
            votes, (by_votes, spare) = block.votes, block.spare
            shares = _shares(votes, densities, spare)
            if centre is None:
                by_w = by_mass + sum_over_dims(torch.mul(votes, by_total, out=spare))
                torch.mul(by_total, shares * a, out=by_votes)
            else:
                difference = torch.sub(votes, centre, out=by_votes)
                by_w = sum_over_dims(torch.mul(difference, difference, out=spare).mul_(by_total))
                by_votes.mul_(by_total).mul_(2 * shares * a)
                by_centre -= by_votes.sum(dim=0)
            share_by_w = shares * by_w
            by_activations[block.part] = share_by_w.sum(dim=3, keepdim=True)
            if densities:
                _, mean, precision = densities
                by_logit = a * (share_by_w - shares * by_activations[block.part])
                difference = torch.sub(votes, mean, out=spare)
                by_precision -= torch.mul(difference, difference, out=votes).mul_(by_logit).sum(dim=0)
                difference.mul_(by_logit).mul_(2 * precision)
                by_mean += difference.sum(dim=0)
                by_votes -= difference
                by_log_peak = by_log_peak + by_logit.sum(dim=0)
            found.fill(block, by_votes)
        by_others = [by_activations[:, 0, 0, 0].T]
        if ctx.is_centred:
            by_others.append(batch_first(by_centre))
        if densities:
            by_others += [_of_parents(by_log_peak), batch_first(by_mean), batch_first(by_precision)]
        return None, None, found.children, found.weight, *by_others


def _arranged(
    is_centred: bool, rows: int, others: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """Bring activations, the centre and densities into the order of a block's votes."""
    activations, *rest = others
    centre = batch_last(rest.pop(0), rows) if is_centred else None
    densities = (_as_parents(rest[0]), *(batch_last(values, rows) for values in rest[1:])) if rest else ()
    return activations.T[:, None, None, None], centre, densities


def _shares(votes: Tensor, densities: tuple[Tensor, ...], spare: Tensor) -> Tensor:
    """Compute R (child, 1, 1, parent, batch)."""
    if not densities:
        num_children, _, _, num_parents, batch = votes.shape
        return votes.new_full((num_children, 1, 1, num_parents, batch), 1 / num_parents)
    log_peak, mean, precision = densities
    distance = sum_over_dims(torch.sub(votes, mean, out=spare).square_().mul_(precision))
    return (log_peak - distance).softmax(dim=3)


def _as_parents(values: Tensor) -> Tensor:
    """Bring (batch, parent) into the order of a block's votes: (1, 1, parent, batch)."""
    return values.T[None, None]


def _of_parents(values: Tensor) -> Tensor:
    return values[0, 0].T


def _plain(plain: Contribution, children: Tensor, weight: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    return plain(LazyVotes(children, weight).materialize(), *others)
