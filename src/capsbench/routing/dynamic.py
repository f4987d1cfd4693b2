"""Dynamic routing: parents from a weighted sum of votes, the weights sharpened by agreement."""

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.vectors import squash, squashed_norm


class DynamicRouting(Router):
    """Procedure 1 of Sabour et al. 2017, "Dynamic Routing Between Capsules" (arXiv:1710.09829).

    With one iteration the coupling is uniform, Σû/J: no agreement is in it, which makes it the control of every
    comparison. The activation of a parent is the length of its pose.

    Args:
        iterations: how often coupling coefficients are computed, at least 1.
        detach: let the gradient flow through the last iteration only (a common variant; off in the paper's code).

    Raises:
        ValueError: iterations below 1.
    """

    default_vote_gain = 0.25
    """Votes of unit variance saturate squash before anything has agreed, and dynamic routing then learns nothing for a
    long time; a quarter of that trains."""

    def __init__(self, iterations: int = 3, detach: bool = False) -> None:
        super().__init__()
        self.iterations = check_iterations(iterations)
        self.detach = detach

    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"],
        activations: Float[Tensor, "batch child"] | None = None,
    ) -> Capsules:
        seen = votes.detach() if self.detach else votes
        logits = votes.new_zeros(votes.shape[:-1])

        for _ in range(self.iterations - 1):
            parents = squash(weighted_sum(logits.softmax(dim=-1), seen))
            logits = logits + torch.einsum("bijk,bjk->bij", seen, parents)
        s = weighted_sum(logits.softmax(dim=-1), votes)
        return Capsules(squash(s), activations=squashed_norm(s))

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, detach={self.detach}"


def weighted_sum(
    coupling: Float[Tensor, "batch child parent"], votes: Float[Tensor, "batch child parent dim"]
) -> Float[Tensor, "batch parent dim"]:
    """Sum votes over children, each weighted by its coupling coefficient."""
    return torch.einsum("bij,bijk->bjk", coupling, votes)
