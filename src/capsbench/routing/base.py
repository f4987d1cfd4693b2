"""What a router takes and returns."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.functional import softmax_over_parents, widen
from capsbench.routing.transformations import is_transformed
from capsbench.routing.votes import LazyVotes, Votes

IMPLEMENTATIONS = ("auto", "plain", "fused")
PLACE = {"num_children": "children", "num_parents": "parents", "pose_dim": "dimensions"}
"""What a router may be made for: the arguments and attributes of that name, and the words for the axes of votes."""


class Capsules(NamedTuple):
    """A layer's capsules: a pose says how an entity looks, an activation how likely it is there."""

    poses: Float[Tensor, "batch capsules dim"]
    activations: Float[Tensor, "batch capsules"]


class NonFiniteError(RuntimeError):
    """A tensor holds NaN or infinity where only finite numbers make sense."""


class Router(nn.Module, ABC):
    """Turn the votes of child capsules into parent capsules.

    A subclass implements `route`. This class checks the input, and computes in float32 where votes have 16 bits, even
    under autocast: sums over thousands of votes would lose too many digits. float64 stays float64. One that is made
    for a number of children, parents or dimensions keeps it as `num_children`, `num_parents` or `pose_dim`, and
    takes no other votes.

    Args:
        implementation: how the capsule layer around the router computes votes. "plain" stores all votes; "fused" never
            does (see `LazyVotes`) and gives the same results; "auto" takes the faster one.

    Raises:
        ValueError: implementation is none of these, or is "fused" and the router does not take lazy votes.

    >>> class Mean(Router):
    ...     def route(self, votes, activations):
    ...         poses = votes.mean(dim=1)
    ...         return Capsules(poses, poses.norm(dim=-1))
    >>> Mean()(torch.ones(1, 7, 3, 4)).activations  # votes (batch, child, parent, dim)
    tensor([[2., 2., 2.]])
    """

    default_vote_gain: ClassVar[float] = 1.0
    """The initial gain γ of batch-normalised votes, unless the layer sets one (`CapsuleLayer.vote_gain`)."""

    takes_lazy_votes: ClassVar[bool] = False
    """Whether `route` also works with `LazyVotes`, which it may use through `sum_over_children`, `vote_sums` and `sum`
    only. A subclass that overrides `route` has to declare it again."""

    weighs_votes: bool = True
    """Whether `route` gives each vote a weight of its own. One that does not needs sums of votes alone."""

    reads_activations: ClassVar[bool] = True
    """Whether `route` reads the children's activations; a network need not compute them for one that does not."""

    needs_activations: ClassVar[bool] = False
    """Whether `route` weighs children by their activations, and so takes none without."""

    check_finite: bool = True
    """Whether to raise NonFiniteError, see `forward`. Set it to False on a router, or on `Router` for all of them."""

    divides_children: ClassVar[bool] = False
    """Whether `route` divides each child among parents by `share`."""

    default_competition: ClassVar[str] = "place"
    """Which parents of a map compete for a child unless the layer says so, see `ConvCapsuleLayer`."""

    share: Callable[[Tensor], Tensor] = staticmethod(softmax_over_parents)
    """Divides each child among its parents: logits (batch, child, parent) to coefficients of the same shape. A
    convolutional layer replaces it where parents of several places compete for a child."""

    __call__: Callable[..., Capsules]  # of nn.Module it is of any type

    def __init__(self, implementation: str = "auto") -> None:
        super().__init__()
        check_choice("implementation", implementation, *IMPLEMENTATIONS)
        if implementation == "fused" and not self.takes_lazy_votes:
            raise ValueError(f'{type(self).__name__} has no fused implementation; take implementation="plain"')
        self.implementation = implementation

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "route" in vars(cls) and "takes_lazy_votes" not in vars(cls):
            cls.takes_lazy_votes = False

    def forward(
        self,
        votes: Tensor | LazyVotes,
        activations: Tensor | None = None,
        *,
        normalise: bool = True,
        dtype: torch.dtype | None = None,
    ) -> Capsules:
        """Route votes to parents.

        Args:
            votes: (batch, child, parent, dim), what each child predicts for the pose of each parent.
            activations: (batch, child), how active each child is; some routers ignore it.
            normalise: also compute what needs the whole batch, see `normalise`. If not, parents have at least 32 bits.
            dtype: of the parents; None for that of the votes. Under autocast it is float32.

        Returns:
            Parent poses (batch, parent, dim) and activations (batch, parent).

        Raises:
            ValueError: votes or activations have the wrong shape, the router was made for other votes, or votes are not
                floating point.
            NonFiniteError: parents are NaN or infinite. Checked on the CPU only: reading a number from another device
                would stall it at every layer, so `capsbench.training.NaNGuard` checks there. Nor is it checked where
                `check_finite` is False, or PyTorch transforms the router, as torch.compile does.
        """
        _check_input(votes, activations)
        self.check_place(**dict(zip(PLACE, votes.shape[1:], strict=True)))
        is_scaled = torch.is_autocast_enabled(votes.device.type)  # then a gradient that overflows is to be seen
        with torch.autocast(votes.device.type, enabled=False):
            wide = torch.promote_types(votes.dtype, torch.float32)
            narrow = wide if is_scaled or not normalise else dtype or votes.dtype
            votes = votes.to(wide) if isinstance(votes, LazyVotes) or is_scaled else widen(votes, wide)
            if activations is not None:
                activations = activations.to(wide) if is_scaled else widen(activations, wide)
            parents = self.route(votes, activations)
            if normalise:
                parents = self.normalise(parents)
            parents = Capsules(parents.poses.to(narrow), parents.activations.to(narrow))
        if self.check_finite and votes.device.type == "cpu" and not is_transformed():
            _check_finite(parents, votes, activations, self)
        return parents

    def check_place(self, **sizes: int) -> None:
        """Raise ValueError if the router was made for other numbers of children, parents or dimensions than these."""
        made_for = {name: size for name in sizes if (size := getattr(self, name, None)) is not None}
        if any(sizes[name] != size for name, size in made_for.items()):
            ours, theirs = (
                " and ".join(f"{size} {PLACE[name]}" for name, size in place.items())
                for place in (made_for, {name: sizes[name] for name in made_for})
            )
            raise ValueError(f"this {type(self).__name__} was made for {ours}, got {theirs}")

    @property
    def shares_within_places(self) -> bool:
        """Whether only the parents of one example, or one place, compete for a child."""
        return self.share is softmax_over_parents

    @abstractmethod
    def route(self, votes: Any, activations: Float[Tensor, "batch child"] | None) -> Capsules:
        """Compute the parents from checked input.

        Args:
            votes: (batch, child, parent, dim); `LazyVotes` too if `takes_lazy_votes`.
            activations: (batch, child), or None.
        """

    def normalise(self, parents: Capsules) -> Capsules:
        """Normalise what `route` gave over the batch, if a router does so; else return it as it is."""
        return parents


def check_choice(setting: str, value: str, *allowed: str) -> None:
    """Raise ValueError unless a setting has one of its values."""
    if value not in allowed:
        raise ValueError(f"{setting} must be {' or '.join(allowed)}, got {value!r}")


def check_effect(setting: str, value: object, default: object, where: str) -> None:
    """Raise ValueError if a setting was changed that has no effect there."""
    if value != default:
        raise ValueError(f"{setting} has no effect {where}; leave it out")


def check_iterations(iterations: int, setting: str = "iterations") -> int:
    """Return `iterations` if it is a valid number of routing iterations, else raise ValueError."""
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"{setting} must be an integer of at least 1, got {iterations!r}")
    return iterations


def _check_input(votes: Tensor | LazyVotes, activations: Tensor | None) -> None:
    if len(votes.shape) != 4 or 0 in votes.shape[1:]:
        raise ValueError(
            f"votes must have the shape (batch, child, parent, dim) with no empty axis, got {tuple(votes.shape)}"
        )
    if not votes.dtype.is_floating_point:
        raise ValueError(f"votes must be floating point, got {votes.dtype}")
    if activations is not None and activations.shape != votes.shape[:2]:
        raise ValueError(
            f"activations must have the shape (batch, child) = {tuple(votes.shape[:2])}, got {tuple(activations.shape)}"
        )


def _check_finite(parents: Capsules, votes: Votes, activations: Tensor | None, router: nn.Module) -> None:
    # The sum is NaN or infinite if any element is, and costs least.
    if torch.isfinite(parents.poses.sum() + parents.activations.sum()):
        return
    if all(torch.isfinite(part).all() for part in parents):
        return
    if isinstance(votes, LazyVotes):
        votes = votes.materialize()
    given = {"votes": votes} if activations is None else {"votes": votes, "activations": activations}
    # In training, statistics of a batch norm follow from the votes: they are no cause.
    state = dict(router.named_parameters()) if router.training else router.state_dict()
    learned = {f"elements of the router's {name}": tensor for name, tensor in state.items()}
    causes = [
        f"{bad} of {tensor.numel()} {name} are NaN or infinite"
        for name, tensor in (given | learned).items()
        if (bad := int((~torch.isfinite(tensor)).sum()))
    ]
    overflow = f"finite votes (largest magnitude {votes.abs().max():.3g}) overflowed"
    raise NonFiniteError(f"routing gave parents that are not finite: {' and '.join(causes) or overflow}")
