"""Routers to measure: their implementations, what they compute, and the reference without one."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from capsbench.routing import Capsules, Router

IMPLEMENTATIONS = ("plain", "fused", "auto")
VOTES_ALONE = "votes alone"
NO_ROUTING = "no routing"
OPERATIONS = ("multiply-adds of products", "operations on elements")
"""The quantities that `operations` counts."""
UNTAGGED = {torch.ops.aten.native_batch_norm.default, torch.ops.aten._softmax.default}
"""Arithmetic on elements that PyTorch tags neither pointwise nor reduction."""


class NoRouting(Router):
    """Form all votes and hand on those of the first child: the reference pass, which every plain router includes."""

    def route(self, votes: Any, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Take the first child's votes as poses, their lengths as activations."""
        return Capsules(votes[:, 0], votes[:, 0].norm(dim=-1))


def implementations(network: nn.Module) -> tuple[str, ...]:
    """Name the implementations that a network's routers offer: those of ours, or "auto" where votes are never lazy."""
    return IMPLEMENTATIONS if all(router.takes_lazy_votes for router in _routers(network)) else ("auto",)


def implement(network: nn.Module, implementation: str) -> None:
    """Set the implementation of all routers of a network."""
    for router in _routers(network):
        router.implementation = implementation


def operations(way: Callable[[], object], *, gradients: bool = False) -> tuple[int, int]:
    """Count the arithmetic of a call.

    Args:
        way: what is called.
        gradients: let it compute gradients; their arithmetic counts.

    Returns:
        The multiply-adds of matrix products and convolutions, as `torch.utils.flop_counter` has them (which counts two
        operations for each), and the operations on elements: for each pointwise operation, sum, norm, softmax and batch
        norm the elements of the largest tensor that it reads or writes. The work of routers is mostly of this kind.
    """
    elements = _ElementCounter()  # type: ignore[no-untyped-call]
    with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as products, elements:
        way()
    return products.get_total_flops() // 2, elements.count


class _ElementCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tagged = {torch.Tag.pointwise, torch.Tag.reduction}.intersection(func.tags) or func in UNTAGGED
        if tagged and func is not torch.ops.aten.clone.default:
            self.count += max((one.numel() for one in (*args, out) if isinstance(one, Tensor)), default=0)
        return out


def _routers(network: nn.Module) -> Iterator[Router]:
    return (module for module in network.modules() if isinstance(module, Router))
