"""What is not stored in the forward pass is computed once more in the backward pass, and differentiated there."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NO_SECOND_DERIVATIVE = (
    'votes that are not all stored have no second derivative; take implementation="plain", which stores them'
)


def gradients_again(
    compute: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    is_wanted: Sequence[bool],
    seeds: Sequence[Tensor],
) -> list[Tensor | None]:
    """Compute a function once more, and return the gradients of its inputs.

    Args:
        compute: called with the inputs.
        inputs: of which gradients may be wanted.
        is_wanted: whether the gradient of each is.
        seeds: gradients of what `compute` returns.

    Returns:
        A gradient for each input; None where none is wanted or flows.

    Raises:
        RuntimeError: the gradients are to be differentiated themselves.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(NO_SECOND_DERIVATIVE)
    leaves = [tensor.detach().requires_grad_(wanted) for tensor, wanted in zip(inputs, is_wanted, strict=True)]
    with torch.enable_grad():
        outputs = compute(*leaves)
    reached = [(output, seed) for output, seed in zip(outputs, seeds, strict=True) if output.requires_grad]
    ends, starts = zip(*reached, strict=True)
    found = iter(torch.autograd.grad(ends, [leaf for leaf in leaves if leaf.requires_grad], starts, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]
