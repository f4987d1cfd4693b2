"""FM agreement: parents from the pairwise products of votes, in one pass."""

import warnings
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router, check_choice
from capsbench.routing.functional import l2_normalize, squash, squashed_norm
from capsbench.routing.kernels import vote_sums
from capsbench.routing.votes import Votes

ONE_CHILD = "FM agreement of one child has no pairs: its parents' poses, activations and gradients are 0"


class FMAgreement(Router):
    """Route by FM agreement: sum the element-wise products of all pairs of votes for a parent.

    As in a factorization machine, ½ ((Σ û)⊙(Σ û) - Σ û⊙û) gives the sum over pairs of n votes in O(n). With unit votes
    the activation lies in [-1/2, (n-1)/2]; where all votes agree it is (n-1)/2.

    Source: Algorithm 1 and equations 5 to 8 of "An Efficient Agreement Mechanism in CapsNets By Pairwise Product".

    Args:
        scale: the factor before 1/n, a temperature if a softmax follows; ½ in the paper, 1 in its authors' code.
        normalize_votes: divide votes by their length first (line 1 of the algorithm).
        normalize_pose: return poses s/‖s‖, which a decoder reads (line 3); False returns s.
        output: "sum" gives the activation Σ s and the poses above (lines 3 and 4); "squash" the activation
            ‖s‖²/(1+‖s‖²) and the pose squash(s), as in the authors' code for table 3.
        feeds_capsules: return poses s whatever `normalize_pose` and `output` are, because another capsule layer reads
            them (§3.3).
        implementation: see `Router`.

    Raises:
        ValueError: scale is not positive, output is unknown, or normalize_pose is set although output is "squash".

    >>> import torch
    >>> votes = torch.ones(1, 3, 2, 4)  # (batch, child, parent, dim): three children agree about both parents
    >>> poses, activations = FMAgreement()(votes)
    >>> poses.shape  # (batch, parent, dim)
    torch.Size([1, 2, 4])
    >>> activations  # (batch, parent)
    tensor([[1., 1.]])
    """

    takes_lazy_votes = True
    weighs_votes = False
    reads_activations = False

    def __init__(
        self,
        scale: float = 0.5,
        normalize_votes: bool = True,
        normalize_pose: bool = True,
        output: Literal["sum", "squash"] = "sum",
        feeds_capsules: bool = False,
        implementation: str = "auto",
    ) -> None:
        super().__init__(implementation)
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        check_choice("output", output, "sum", "squash")
        if output == "squash" and normalize_pose:
            raise ValueError('output="squash" squashes poses instead; set normalize_pose=False')
        self.scale = scale
        self.output = output
        self.feeds_capsules = feeds_capsules
        self.normalize_votes = normalize_votes
        self.normalize_pose = normalize_pose and not feeds_capsules

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Compute Algorithm 1; child activations are ignored."""
        n = votes.shape[1]
        if n == 1 and not torch.compiler.is_compiling():
            warnings.warn(ONE_CHILD, stacklevel=2)
        total, total_of_squares = vote_sums(votes, normalize=self.normalize_votes)  # line 1, and the sums of line 2
        s = self.scale / n * (total * total - total_of_squares)  # line 2
        if self.output == "squash":
            return Capsules(s if self.feeds_capsules else squash(s), activations=squashed_norm(s))
        poses = l2_normalize(s) if self.normalize_pose else s  # line 3
        return Capsules(poses, activations=s.sum(dim=-1))  # line 4

    def extra_repr(self) -> str:
        settings = ("scale", "normalize_votes", "normalize_pose", "output")
        return ", ".join(f"{name}={getattr(self, name)}" for name in settings)
