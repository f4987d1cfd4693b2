"""What is not stored in the forward pass is computed once more in the backward pass, and differentiated there."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from capsbench.routing.transformations import in_torch_func


def stores_all(seeds: Sequence[Tensor]) -> bool:
    """Whether a backward pass must compute gradients from all votes at once: they are to be differentiated themselves
    (`create_graph=True`), or many are computed together, which allows no `out=`.

    Args:
        seeds: gradients that the pass begins with.
    """
    return torch.is_grad_enabled() or any(map(_is_batched, seeds))


def _is_batched(gradient: Tensor) -> bool:
    """Whether this is many gradients: within torch.func, or with `is_grads_batched=True`, PyTorch's older way."""
    return in_torch_func() or torch._C._functorch.is_legacy_batchedtensor(gradient)


def part_of(tensor: Tensor, axis: int | None, rows: slice) -> Tensor:
    """Return some rows along an axis; the whole tensor if that is None."""
    return tensor if axis is None else tensor.narrow(axis, rows.start, rows.stop - rows.start)


def add_to_part(total: Tensor, axis: int | None, rows: slice, added: Tensor) -> Tensor:
    """Add to `part_of` a total and return the total: in place, or a new one where many are computed together."""
    if not _is_batched(added):
        part_of(total, axis, rows).add_(added)
        return total
    if axis is None:
        return total + added
    return total.slice_scatter(part_of(total, axis, rows) + added, axis, rows.start, rows.stop)


def gradients_again(
    compute: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    is_wanted: Sequence[bool],
    seeds: Sequence[Tensor],
) -> list[Tensor | None]:
    """Compute a function once more, and return the gradients of its inputs.

    Where gradients are to be differentiated themselves (`create_graph=True`), so are these; what `compute` makes is
    stored then.

    Args:
        compute: called with the inputs.
        inputs: of which gradients may be wanted.
        is_wanted: whether the gradient of each is.
        seeds: gradients of what `compute` returns.

    Returns:
        A gradient for each input; None where none is wanted or flows.
    """
    again = torch.is_grad_enabled()
    # A view is a leaf of this computation also where one input was computed from another.
    leaves = [
        (tensor.view_as(tensor) if again else tensor.detach().requires_grad_()) if wanted else tensor.detach()
        for tensor, wanted in zip(inputs, is_wanted, strict=True)
    ]
    with torch.enable_grad():
        outputs = compute(*leaves)
    reached = [(output, seed) for output, seed in zip(outputs, seeds, strict=True) if output.requires_grad]
    if not reached:
        return [None] * len(inputs)
    ends, starts = zip(*reached, strict=True)
    wanted_leaves = [leaf for leaf, wanted in zip(leaves, is_wanted, strict=True) if wanted]
    found = iter(torch.autograd.grad(ends, wanted_leaves, starts, allow_unused=True, create_graph=again))
    return [next(found) if wanted else None for wanted in is_wanted]
