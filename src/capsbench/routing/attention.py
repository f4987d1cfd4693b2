"""Self-attention routing: children weighed by how well their votes agree with the sum of all, in one pass."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.base import Capsules, Router
from capsbench.routing.functional import exp_squash, exp_squashed_norm, weighted_sum
from capsbench.routing.kernels import sum_over_children
from capsbench.routing.votes import Votes


class AttentionRouting(Router):
    """Route by self-attention between votes, plus a learned prior of each child for each parent.

    The activation of a parent is the length of its pose. Votes are summed twice; nothing iterates.

    Source: Mazzia et al. 2021, "Efficient-CapsNet: Capsule Network with Self-Attention Routing" (arXiv:2101.12491), and
    its code, where the agreement is divided by √k of the parents' k dimensions.

    Args:
        num_children: the number of children n.
        num_parents: the number of parents J.
        implementation: see `Router`.

    Attributes:
        prior: (num_children, num_parents), learned: added to the coupling after the softmax; 0 at first.

    Raises:
        ValueError: in the forward pass: votes are of other numbers of children or parents.

    >>> votes = torch.randn(2, 7, 3, 16)  # (batch, child, parent, dim)
    >>> poses, activations = AttentionRouting(num_children=7, num_parents=3)(votes)
    >>> poses.shape, activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    """

    takes_lazy_votes = True
    reads_activations = False

    def __init__(self, num_children: int, num_parents: int, implementation: str = "auto") -> None:
        super().__init__(implementation)
        self.num_children, self.num_parents = num_children, num_parents
        self.prior = nn.Parameter(torch.zeros(num_children, num_parents))

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Compute the parents; child activations are ignored."""
        prior = self.prior.expand(votes.shape[0], -1, -1)
        (s,) = sum_over_children(self._attended, votes, per_child=(prior,), shared=(votes.sum(dim=1),))
        return Capsules(exp_squash(s), activations=exp_squashed_norm(s))

    def _attended(
        self,
        votes: Float[Tensor, "batch child parent dim"],
        prior: Float[Tensor, "batch child parent"],
        total: Float[Tensor, "batch parent dim"],
    ) -> tuple[Float[Tensor, "batch parent dim"]]:
        """Compute Σ (c + p) û."""
        agreement = (votes * total.unsqueeze(1)).sum(dim=-1) / math.sqrt(votes.shape[-1])
        return (weighted_sum(self.share(agreement) + prior, votes),)

    def extra_repr(self) -> str:
        num_children, num_parents = self.prior.shape
        return f"num_children={num_children}, num_parents={num_parents}"
