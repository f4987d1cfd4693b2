"""Dynamic routing: parents from a weighted sum of votes, the weights sharpened by agreement."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.routing.base import Capsules, Router, check_effect, check_iterations
from capsbench.routing.functional import squash, squashed_norm, weighted_sum
from capsbench.routing.kernels import coupled_sum, sum_over_children
from capsbench.routing.votes import Votes


class DynamicRouting(Router):
    """Route by agreement: children send more of themselves to the parents that agree with their votes.

    One iteration gives every parent Σ û/J. No agreement enters it, so it is the control of every comparison. The
    activation of a parent is the length of its pose.

    Source: Procedure 1 of Sabour et al. 2017, "Dynamic Routing Between Capsules" (arXiv:1710.09829).

    Args:
        iterations: how often coupling coefficients are computed, at least 1.
        leaky: a child may go nowhere: the softmax has one more logit, always 0, and its share is dropped. Sabour et
            al.'s code has it for CIFAR-10.
        bias: add learned biases (parent, dim) to s before squash; they begin at 0.1. Sabour et al.'s code and that of
            DeepCaps have them.
        num_parents, pose_dim: parents and dimensions of a vote, for `bias` only. A capsule layer tells them.
        detach: let gradients flow through the last iteration only: a common variant, which the authors' code does not
            use.
        implementation: see `Router`.

    Raises:
        ValueError: iterations is not an integer of at least 1, detach is set with 1 iteration, or there are biases of
            an unknown number.

    >>> votes = torch.randn(2, 7, 3, 16)  # (batch, child, parent, dim)
    >>> poses, activations = DynamicRouting(iterations=3)(votes)
    >>> poses.shape, activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    >>> torch.allclose(activations, poses.norm(dim=-1))
    True
    """

    default_vote_gain = 0.25
    """Votes of unit variance saturate squash before any parents agree, and the network learns nothing for a long time.
    With a quarter of that it learns."""

    takes_lazy_votes = True
    reads_activations = False
    divides_children = True

    def __init__(
        self,
        iterations: int = 3,
        detach: bool = False,
        implementation: str = "auto",
        *,
        leaky: bool = False,
        bias: bool = False,
        num_parents: int | None = None,
        pose_dim: int | None = None,
    ) -> None:
        super().__init__(implementation)
        self.bias = None
        if bias:
            if num_parents is None or pose_dim is None:
                raise ValueError(
                    "bias=True needs num_parents and pose_dim, which a capsule layer tells its router's class"
                )
            self.num_parents, self.pose_dim = num_parents, pose_dim
            self.bias = nn.Parameter(torch.full((num_parents, pose_dim), 0.1))
        self.leaky = leaky
        self.iterations = check_iterations(iterations)
        self.weighs_votes = iterations > 1
        self.detach = detach
        if iterations == 1:
            check_effect("detach", detach, False, "with iterations=1")

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Compute Procedure 1; child activations are ignored.

        Each iteration adds ⟨û, v⟩ to the logits b, so b is the product of û with the sum of all v so far. Only that sum
        is kept.
        """
        if self.shares_within_places:  # b = 0, so every coupling coefficient is 1/J
            s = votes.sum(dim=1) / (votes.shape[2] + self.leaky)
        else:
            s = self._coupled_sum(votes, torch.zeros_like(votes.sum(dim=1)))
        s = self._biased(s)
        sum_of_v = torch.zeros_like(s)
        for _ in range(self.iterations - 1):
            sum_of_v = sum_of_v + squash(s.detach() if self.detach else s)
            s = self._coupled_sum(votes, sum_of_v)
            s = self._biased(s)
        return Capsules(squash(s), activations=squashed_norm(s))

    def _coupled_sum(
        self, votes: Votes, sum_of_v: Float[Tensor, "batch parent dim"]
    ) -> Float[Tensor, "batch parent dim"]:
        kernel = partial(coupled_sum, leaky=self.leaky, detach=self.detach, plain=self._coupled_votes)
        (s,) = sum_over_children(self._coupled_votes, votes, shared=(sum_of_v,), kernel=kernel)
        return s

    def _coupled_votes(
        self, votes: Float[Tensor, "batch child parent dim"], sum_of_v: Float[Tensor, "batch parent dim"]
    ) -> tuple[Float[Tensor, "batch parent dim"]]:
        """Compute s = Σ c û."""
        b = ((votes.detach() if self.detach else votes) * sum_of_v.unsqueeze(1)).sum(dim=-1)
        c = self.share(F.pad(b, (0, 1)))[..., :-1] if self.leaky else self.share(b)
        return (weighted_sum(c, votes),)

    def _biased(self, s: Float[Tensor, "batch parent dim"]) -> Float[Tensor, "batch parent dim"]:
        return s if self.bias is None else s + self.bias

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}, detach={self.detach}, leaky={self.leaky}"
