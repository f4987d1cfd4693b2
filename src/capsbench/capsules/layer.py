"""The capsule layer: child capsules to parent capsules."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from capsbench.capsules.folding import can_fold, fold
from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, VoteNorm, VoteNormKind
from capsbench.capsules.transforms import FullTransform, MatrixTransform, check_poses
from capsbench.routing import Capsules, LazyVotes, Router, RouterFactory, check_effect, make_router
from capsbench.routing.kernels.sums import FEW_BYTES, FEWEST_BYTES, few_votes
from capsbench.routing.transformations import is_transformed


def unpack(children: Capsules | Tensor, router: Router) -> tuple[Tensor, Tensor | None]:
    """Return poses and activations; None for the latter where there are none.

    Raises:
        ValueError: there are none, and the router needs them.
    """
    if not isinstance(children, Tensor):
        return children
    if router.needs_activations:
        kind = type(router).__name__
        raise ValueError(f"{kind} weighs children by activations: pass Capsules(poses, activations), not poses alone")
    return children, None


class CapsuleLayer(nn.Module):
    """Compute votes, normalise them and route them, as one layer.

    The layer owns all three steps, so `router.implementation` can decide whether all votes are stored. While training
    on several devices they always are, because SyncBatchNorm reads them; and so they are where the transform or the
    norm has hooks, such as those of `torch.nn.utils.prune`.

    Source: the paper's §3.3 and fig. 2.

    Args:
        transform: child poses (batch, child, d) to votes (batch, child, parent, k).
        router: a router; or its class or `functools.partial` of it, which is told its place, see `make_router`. Layers
            that are given the same router share its parameters.
        vote_norm: "none", or the kind of batch normalisation of votes, see `VoteNorm`.
        vote_gain: the initial γ of that normalisation; None takes the router's `default_vote_gain`.
        feeds_capsules: whether another capsule layer reads the parents.
        batch_norm_momentum: see `VoteNorm`.

    Raises:
        ValueError: vote_norm is unknown, vote_gain is not positive, vote_gain or batch_norm_momentum is set without a
            norm, or the router was made for another place. In the forward pass: children are of other numbers or
            dimensions than the transform's, or the router needs activations and there are none.

    >>> from capsbench.routing import FMAgreement
    >>> layer = CapsuleLayer(FullTransform(num_children=7, num_parents=3, child_dim=8, pose_dim=16), FMAgreement)
    >>> children = Capsules(torch.randn(2, 7, 8), torch.rand(2, 7))  # (batch, child, d), (batch, child)
    >>> parents = layer(children)
    >>> parents.poses.shape, parents.activations.shape  # (batch, parent, k) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    >>> layer(children.poses).poses.equal(parents.poses)  # FM reads no activations
    True
    """

    __call__: Callable[..., Capsules]

    def __init__(
        self,
        transform: FullTransform | MatrixTransform,
        router: Router | RouterFactory,
        *,
        vote_norm: VoteNormKind = "none",
        vote_gain: float | None = None,
        feeds_capsules: bool = False,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        size = {name: getattr(transform, name) for name in ("num_children", "num_parents", "pose_dim")}
        self.transform = transform
        self.router = make_router(router, **size, feeds_capsules=feeds_capsules)
        if vote_norm == "none":
            check_effect("vote_gain", vote_gain, None, 'with vote_norm="none"')
            check_effect("batch_norm_momentum", batch_norm_momentum, BATCH_NORM_MOMENTUM, 'with vote_norm="none"')
        gain = self.router.default_vote_gain if vote_gain is None else vote_gain
        self.vote_norm = (
            nn.Identity()
            if vote_norm == "none"
            else VoteNorm(**size, kind=vote_norm, gain=gain, momentum=batch_norm_momentum)
        )

    def forward(self, children: Capsules | Tensor, *, normalise: bool = True) -> Capsules:
        """Map child capsules, or poses alone (batch, n, d), to parents (batch, J, k); `normalise`: `Router.forward`."""
        poses, activations = unpack(children, self.router)
        check_poses(poses, self.transform.num_children, self.transform.child_dim)
        if self._votes_are_lazy(poses):
            votes: LazyVotes | Tensor = self._lazy_votes(poses)
        else:
            votes = self.vote_norm(self.transform(poses))
        dtype = self.transform.weight.dtype  # lazy votes are wider
        return self.router(votes, activations, normalise=normalise, dtype=dtype)

    def _votes_are_lazy(self, poses: Tensor) -> bool:
        router = self.router
        if is_transformed():
            return False
        if router.implementation == "plain" or not (router.takes_lazy_votes and router.shares_within_places):
            return False
        if isinstance(self.vote_norm, VoteNorm) and not can_fold(self.vote_norm):
            return False
        transform, batch = self.transform, poses.shape[0]
        num_votes = batch * transform.num_children * transform.num_parents * transform.pose_dim
        num_bytes = num_votes * transform.weight.dtype.itemsize
        is_normed = isinstance(self.vote_norm, VoteNorm)
        if poses.device.type == "cpu":
            # A norm that is folded saves passes over all votes, and so does the gradient of their sums: docs/speed.md
            saves = is_normed or (torch.is_grad_enabled() and not router.weighs_votes)
            is_few = few_votes(batch, num_bytes, FEWEST_BYTES if saves else 2 * FEWEST_BYTES)
        else:  # the kernels of plain sums are as fast with few votes
            is_few = (is_normed or router.weighs_votes) and num_bytes <= FEW_BYTES["cuda"]
        if is_few and router.implementation == "auto":
            return False
        return not any(map(_has_hooks, (*self.transform.modules(), *self.vote_norm.modules())))

    def _lazy_votes(self, poses: Tensor) -> LazyVotes:
        with torch.autocast(poses.device.type, enabled=False):  # as in the router
            children, weight = self.transform.factors(poses)
            dtype = torch.promote_types(torch.promote_types(children.dtype, weight.dtype), torch.float32)
            votes = LazyVotes(children.to(dtype), weight.to(dtype), self.router.implementation == "fused")
            return fold(self.vote_norm, votes) if isinstance(self.vote_norm, VoteNorm) else votes


def _has_hooks(module: nn.Module) -> bool:
    """Whether something is to happen when a module is called or differentiated."""
    forward = module._forward_pre_hooks or module._forward_hooks
    return bool(forward or module._backward_pre_hooks or module._backward_hooks)
