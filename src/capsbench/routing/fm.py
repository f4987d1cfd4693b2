"""FM agreement: parents from the pairwise products of votes, in one pass."""

from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router
from capsbench.routing.functional import l2_normalize
from capsbench.routing.votes import LazyVotes, sum_over_children


class FMAgreement(Router):
    """Algorithm 1 of "An Efficient Agreement Mechanism in CapsNets By Pairwise Product" (eq. 5 to 8).

    The agreement of n votes is the sum over pairs of their element-wise products. As in a factorization machine,
    ½ ((Σ û)⊙(Σ û) - Σ û⊙û) gives that sum in O(n). With unit votes the activation lies in [-1/2, (n-1)/2], and reaches
    the upper end where all votes agree.

    Args:
        scale: the factor before 1/n, a temperature where a softmax follows; ½ in the paper, 1 in its authors' code.
        normalize_votes: divide votes by their length first (line 1 of the algorithm).
        normalize_pose: poses are s/‖s‖, which a decoder reads; False gives s itself, which the next capsule layer
            reads (§3.3 of the paper).
        implementation: see `Router`.

    Raises:
        ValueError: scale is not positive.
    """

    takes_lazy_votes = True

    def __init__(
        self,
        scale: float = 0.5,
        normalize_votes: bool = True,
        normalize_pose: bool = True,
        implementation: str = "auto",
    ) -> None:
        super().__init__(implementation)
        if not scale > 0:
            raise ValueError(f"router.scale must be positive, got {scale}")
        self.scale = scale
        self.normalize_votes = normalize_votes
        self.normalize_pose = normalize_pose

    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"] | LazyVotes,
        activations: Float[Tensor, "batch child"] | None = None,
    ) -> Capsules:
        num_children = votes.shape[1]

        total, total_of_squares = self._sums_over_children(votes)
        s = self.scale / num_children * (total * total - total_of_squares)
        poses = l2_normalize(s) if self.normalize_pose else s
        return Capsules(poses, activations=s.sum(dim=-1))

    def _sums_over_children(
        self, votes: Float[Tensor, "batch child parent dim"] | LazyVotes
    ) -> tuple[Float[Tensor, "batch parent dim"], ...]:
        if isinstance(votes, LazyVotes) and has_kernels(votes):
            from capsbench.routing.kernels.triton import vote_sums

            return vote_sums(votes, self.normalize_votes)
        return sum_over_children(self._sums, votes)

    def _sums(
        self, votes: Float[Tensor, "batch child parent dim"], activations: None = None
    ) -> tuple[Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent dim"]]:
        if self.normalize_votes:
            votes = l2_normalize(votes)
        return votes.sum(dim=1), (votes * votes).sum(dim=1)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, normalize_votes={self.normalize_votes}, normalize_pose={self.normalize_pose}"


def has_kernels(votes: LazyVotes) -> bool:
    """Whether Triton's kernels can add up these votes: in float32, on a GPU."""
    return votes.weight.is_cuda and votes.weight.dtype == torch.float32 and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
