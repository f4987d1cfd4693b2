"""What is not stored in the forward pass is computed once more in the backward pass, and differentiated there."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NO_SECOND_DERIVATIVE = (
    "votes that are not all stored have no second derivative; take router.implementation=plain, which stores them"
)


def gradients_again(
    compute: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    is_wanted: Sequence[bool],
    seeds: Sequence[Tensor],
) -> list[Tensor | None]:
    """Compute a function once more, and return the gradients of its inputs.

    Where these are to be differentiated themselves (`create_graph=True`), all that is computed here is stored for it.

    Args:
        compute: called with the inputs.
        inputs: of which gradients may be wanted.
        is_wanted: whether the gradient of each is.
        seeds: gradients of what `compute` returns.

    Returns:
        A gradient for each input; None where none is wanted or flows.
    """
    again = torch.is_grad_enabled()
    # A view is differentiated in place of an input on which another input may depend.
    leaves = [
        tensor.view_as(tensor) if again and wanted else tensor.detach().requires_grad_(wanted)
        for tensor, wanted in zip(inputs, is_wanted, strict=True)
    ]
    with torch.enable_grad():
        outputs = compute(*leaves)
    reached = [(output, seed) for output, seed in zip(outputs, seeds, strict=True) if output.requires_grad]
    ends, starts = zip(*reached, strict=True)
    wanted_leaves = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(ends, wanted_leaves, starts, allow_unused=True, create_graph=again))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]
