"""Dynamic routing: parents from a weighted sum of votes, the weights sharpened by agreement."""

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.functional import softmax_over_parents, squash, squashed_norm, weighted_sum
from capsbench.routing.votes import LazyVotes, sum_over_children


class DynamicRouting(Router):
    """Procedure 1 of Sabour et al. 2017, "Dynamic Routing Between Capsules" (arXiv:1710.09829).

    With one iteration the coupling is uniform, Σû/J: no agreement is in it, which makes it the control of every
    comparison. The activation of a parent is the length of its pose.

    Args:
        iterations: how often coupling coefficients are computed, at least 1.
        detach: let the gradient flow through the last iteration only (a common variant; off in the paper's code).
        implementation: see `Router`.

    Raises:
        ValueError: iterations below 1.
    """

    default_vote_gain = 0.25
    """Votes of unit variance saturate squash before anything has agreed, and dynamic routing then learns nothing for a
    long time; a quarter of that trains."""

    takes_lazy_votes = True

    def __init__(self, iterations: int = 3, detach: bool = False, implementation: str = "auto") -> None:
        super().__init__(implementation)
        self.iterations = check_iterations(iterations)
        self.detach = detach

    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"] | LazyVotes,
        activations: Float[Tensor, "batch child"] | None = None,
    ) -> Capsules:
        s = votes.sum(dim=1) / votes.shape[2]  # zero logits: every coupling coefficient is 1/J
        parents_so_far = torch.zeros_like(s)
        for _ in range(self.iterations - 1):
            parents_so_far = parents_so_far + squash(s.detach() if self.detach else s)
            (s,) = sum_over_children(self._weighted_sum, votes, None, parents_so_far)
        return Capsules(squash(s), activations=squashed_norm(s))

    def _weighted_sum(
        self,
        votes: Float[Tensor, "batch child parent dim"],
        activations: None,
        parents_so_far: Float[Tensor, "batch parent dim"],
    ) -> tuple[Float[Tensor, "batch parent dim"]]:
        """Votes weighted by coupling coefficients, of logits that add up a vote's products with all parents so far."""
        seen = votes.detach() if self.detach else votes
        logits = (seen * parents_so_far.unsqueeze(1)).sum(dim=-1)
        return (weighted_sum(softmax_over_parents(logits), votes),)

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, detach={self.detach}"
