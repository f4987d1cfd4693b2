"""Capsule layers as one writes them in a few lines of torch.einsum, all votes stored: what ours are compared with."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.capsules import CapsuleLayer, FullTransform
from capsbench.routing import Capsules, DynamicRouting, FMAgreement

EINSUM = "plain einsum"
Votes = Float[Tensor, "batch child parent dim"]


def fm(votes: Votes, scale: float, unit_poses: bool) -> Capsules:
    """Route by FM agreement: Algorithm 1 of arXiv:2004.00272."""
    votes = F.normalize(votes, dim=-1)
    s = scale / votes.shape[1] * (votes.sum(dim=1) ** 2 - (votes**2).sum(dim=1))
    return Capsules(F.normalize(s, dim=-1) if unit_poses else s, s.sum(dim=-1))


def dynamic(votes: Votes, iterations: int) -> Capsules:
    """Route by agreement: Procedure 1 of arXiv:1710.09829."""
    b = torch.zeros(votes.shape[:3], dtype=votes.dtype, device=votes.device)
    for iteration in range(iterations):
        s = torch.einsum("bij,bijk->bjk", b.softmax(dim=2), votes)
        squared = (s**2).sum(dim=-1, keepdim=True)
        v = squared / (1 + squared) * s / (squared + 1e-12).sqrt()
        if iteration < iterations - 1:
            b = b + torch.einsum("bijk,bjk->bij", votes, v)
    return Capsules(v, v.norm(dim=-1))


class EinsumLayer(nn.Module):
    """Compute what a capsule layer computes, with its weights."""

    def __init__(self, layer: CapsuleLayer, route: Callable[[Votes], Capsules]) -> None:
        super().__init__()
        self.transform, self.route = layer.transform, route

    def forward(self, children: Capsules) -> Capsules:
        """Map child capsules (batch, n, d) to parent capsules (batch, J, k)."""
        return self.route(torch.einsum("bid,ijdk->bijk", children.poses, self.transform.weight))


def as_einsum(layer: nn.Module) -> EinsumLayer | None:
    """Write a layer this way; None if it is not a full transform with FM agreement or dynamic routing as published."""
    if not (
        isinstance(layer, CapsuleLayer)
        and isinstance(layer.transform, FullTransform)
        and isinstance(layer.vote_norm, nn.Identity)
    ):
        return None
    router = layer.router
    if type(router) is FMAgreement and router.normalize_votes and router.output == "sum":
        return EinsumLayer(layer, partial(fm, scale=router.scale, unit_poses=router.normalize_pose))
    if type(router) is DynamicRouting and not (router.leaky or router.detach) and router.bias is None:
        return EinsumLayer(layer, partial(dynamic, iterations=router.iterations))
    return None


def with_einsum(network: nn.Module) -> nn.Module | None:
    """Replace the capsule layers of a network; None if there are none, or others than `as_einsum` takes."""
    names = [name for name, part in network.named_modules() if isinstance(part, CapsuleLayer)]
    written = {name: as_einsum(network.get_submodule(name)) for name in names}
    for name, layer in written.items():
        if layer is None:
            return None
        network.set_submodule(name, layer)
    return network if written else None
