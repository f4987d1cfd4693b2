"""Inverted dot-product attention: parents compete for each child, and are normalised by layer norm."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.functional import weighted_sum
from capsbench.routing.kernels import sum_over_children
from capsbench.routing.votes import Votes


class InvertedAttention(Router):
    """Route by attention of children to parents, whose poses layer norm keeps at one length.

    A pose's length therefore says nothing. The activation of a class capsule is a learned linear function of its pose:
    a logit. One iteration is uniform coupling and has no agreement.

    Layers are routed one after the other. The authors' own default, which routes all layers at once, is a schedule of
    layers, not a router.

    Source: Tsai et al. 2020, "Capsules with Inverted Dot-Product Attention Routing" (ICLR 2020, arXiv:2002.04764), and
    its code.

    Args:
        pose_dim: dimensions k of a vote.
        feeds_capsules: another capsule layer reads the parents; their activations are 1 then, without a readout.
        iterations: how often poses are computed, at least 1.
        implementation: see `Router`.

    Attributes:
        gain, bias: (pose_dim,), learned: of the layer norm, shared by all parents.
        readout, readout_bias: (pose_dim,) and (), learned: from a pose to its activation; None if it feeds capsules.

    Raises:
        ValueError: iterations is not an integer of at least 1.

    >>> votes = torch.randn(2, 7, 3, 16)  # (batch, child, parent, dim)
    >>> poses, activations = InvertedAttention(pose_dim=16)(votes)
    >>> poses.shape, activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    """

    takes_lazy_votes = True
    reads_activations = False

    def __init__(
        self, pose_dim: int, feeds_capsules: bool = False, iterations: int = 2, implementation: str = "auto"
    ) -> None:
        super().__init__(implementation)
        self.iterations = check_iterations(iterations)
        self.pose_dim, self.feeds_capsules = pose_dim, feeds_capsules
        self.gain = nn.Parameter(torch.empty(pose_dim))
        self.bias = nn.Parameter(torch.empty(pose_dim))
        self.readout = None if feeds_capsules else nn.Parameter(torch.empty(pose_dim))
        self.readout_bias = None if feeds_capsules else nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Let the layer norm change nothing at first, and draw the readout as `torch.nn.Linear` does."""
        nn.init.ones_(self.gain)
        nn.init.zeros_(self.bias)
        for parameter in (self.readout, self.readout_bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -1 / math.sqrt(len(self.gain)), 1 / math.sqrt(len(self.gain)))

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Compute the parents; child activations are ignored."""
        num_parents = votes.shape[2]
        poses = self._layer_norm(votes.sum(dim=1) / num_parents)
        for _ in range(self.iterations - 1):
            (total,) = sum_over_children(self._attended, votes, shared=(poses,))
            poses = self._layer_norm(total)
        if self.readout is None or self.readout_bias is None:
            return Capsules(poses, activations=torch.ones_like(poses[..., 0]))
        return Capsules(poses, activations=poses @ self.readout.to(poses.dtype) + self.readout_bias)

    def _layer_norm(self, total: Float[Tensor, "batch parent dim"]) -> Float[Tensor, "batch parent dim"]:
        return F.layer_norm(total, total.shape[-1:]) * self.gain + self.bias

    def _attended(
        self, votes: Float[Tensor, "batch child parent dim"], poses: Float[Tensor, "batch parent dim"]
    ) -> tuple[Float[Tensor, "batch parent dim"]]:
        """Compute Σ r û, where the parents share out each child: r sums to 1 over them."""
        agreement = (votes * poses.unsqueeze(1)).sum(dim=-1) / math.sqrt(votes.shape[-1])
        return (weighted_sum(self.share(agreement), votes),)

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, feeds_capsules={self.feeds_capsules}"
