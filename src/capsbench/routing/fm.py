"""FM agreement: parents from the pairwise products of votes, in one pass."""

from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router
from capsbench.routing.vectors import l2_normalize


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

    Raises:
        ValueError: scale is not positive.
    """

    def __init__(self, scale: float = 0.5, normalize_votes: bool = True, normalize_pose: bool = True) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"router.scale must be positive, got {scale}")
        self.scale = scale
        self.normalize_votes = normalize_votes
        self.normalize_pose = normalize_pose

    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"],
        activations: Float[Tensor, "batch child"] | None = None,
    ) -> Capsules:
        num_children = votes.shape[1]

        if self.normalize_votes:
            votes = l2_normalize(votes)
        total = votes.sum(dim=1)
        s = self.scale / num_children * (total * total - (votes * votes).sum(dim=1))
        poses = l2_normalize(s) if self.normalize_pose else s
        return Capsules(poses, activations=s.sum(dim=-1))

    def extra_repr(self) -> str:
        return f"scale={self.scale}, normalize_votes={self.normalize_votes}, normalize_pose={self.normalize_pose}"
