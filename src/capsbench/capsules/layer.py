"""The capsule layer: children to parents."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from capsbench.capsules.normalization import VoteNorm, VoteNormKind
from capsbench.capsules.transforms import FullTransform, MatrixTransform
from capsbench.routing import Capsules, LazyVotes, Router

RouterFactory = Callable[..., Router]
"""Makes one router per capsule layer. A router class is one, and so is `functools.partial` of it."""


class CapsuleLayer(nn.Module):
    """Transform, vote normalisation and router as one: child capsules to parent capsules.

    Owning all three, it chooses whether votes are formed at all, by `router.implementation`.

    Args:
        transform: child poses (batch, child, d) to votes (batch, child, parent, k).
        router: a factory; see `make_router`.
        vote_norm: batch normalisation of the votes, see `VoteNorm`.
        vote_gain: what its γ starts at; None asks the router (`Router.default_vote_gain`).
        feeds_capsules: another capsule layer reads this one's poses.

    In training over several devices votes are formed whatever `router.implementation` says, for SyncBatchNorm needs
    them.

    Raises:
        ValueError: vote_norm is unknown, or vote_gain not positive.
    """

    def __init__(
        self,
        transform: FullTransform | MatrixTransform,
        router: RouterFactory,
        *,
        vote_norm: VoteNormKind = "none",
        vote_gain: float | None = None,
        feeds_capsules: bool = False,
    ) -> None:
        super().__init__()
        num_children, num_parents, *_ = transform.weight.shape
        self.transform = transform
        self.router = make_router(router, num_parents=num_parents, feeds_capsules=feeds_capsules)
        gain = self.router.default_vote_gain if vote_gain is None else vote_gain
        pose_dim = transform.pose_dim
        self.vote_norm = (
            nn.Identity() if vote_norm == "none" else VoteNorm(num_children, num_parents, pose_dim, vote_norm, gain)
        )

    def forward(self, children: Capsules) -> Capsules:
        """Child capsules (batch, n, d) to parent capsules (batch, J, k)."""
        if self._takes_factors:
            votes: LazyVotes | Tensor = self._factored_votes(children.poses)
        else:
            votes = self.vote_norm(self.transform(children.poses))
        parents: Capsules = self.router(votes, children.activations)
        return parents

    @property
    def _takes_factors(self) -> bool:
        if self.router.implementation == "plain" or not self.router.takes_lazy_votes:
            return False
        return not isinstance(self.vote_norm, VoteNorm) or self.vote_norm.can_fold

    def _factored_votes(self, poses: Tensor) -> LazyVotes:
        with torch.autocast(poses.device.type, enabled=False):  # like the router's own arithmetic
            dtype = torch.promote_types(poses.dtype, self.transform.weight.dtype)
            votes = self.transform.factor(poses).to(torch.promote_types(dtype, torch.float32))
            votes.never_whole = self.router.implementation == "fused"
            return self.vote_norm.fold(votes) if isinstance(self.vote_norm, VoteNorm) else votes


def make_router(factory: RouterFactory, *, num_parents: int, feeds_capsules: bool) -> Router:
    """Make a router for its place in a network.

    An architecture knows no router by name. What a router wants to know of its place it names in its constructor:
    `num_parents` (int), or `normalize_pose`, which is set to False where another capsule layer reads the poses (the
    paper's §3.3) and left alone elsewhere.
    """
    wanted = inspect.signature(factory).parameters
    place: dict[str, Any] = {}
    if "num_parents" in wanted:
        place["num_parents"] = num_parents
    if "normalize_pose" in wanted and feeds_capsules:
        place["normalize_pose"] = False
    return factory(**place)
