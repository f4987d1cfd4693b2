"""How a network gets a router for its place in it."""

import functools
import inspect
from collections.abc import Callable

import torch

from capsbench.routing.base import Router

RouterFactory = Callable[..., Router]
"""Makes the router of a capsule layer: a router class, or `functools.partial` of one."""


def make_router(
    router: Router | RouterFactory, *, num_children: int, num_parents: int, pose_dim: int, feeds_capsules: bool
) -> Router:
    """Make a router for its place in a network.

    A router names in its constructor what it has to know of its place, and gets only that. So no layer knows a router.
    What it draws there shifts no other layer's initial values. A router that is there already is returned as it is, if
    it fits.

    Args:
        router: makes the router: its class, or `functools.partial` of it; or a router.
        num_children, num_parents: capsules below and above the router.
        pose_dim: dimensions of a vote.
        feeds_capsules: whether another capsule layer reads the parents.

    Raises:
        ValueError: the factory names one of these itself or makes something else, or the router, given or made, is one
            for another place.

    >>> from capsbench.routing import EMRouting, FMAgreement
    >>> place = {"num_children": 7, "num_parents": 3, "pose_dim": 16, "feeds_capsules": True}
    >>> make_router(functools.partial(EMRouting, iterations=2), **place)
    EMRouting(num_parents=3, iterations=2)
    >>> make_router(FMAgreement, **place)
    FMAgreement(scale=0.5, normalize_votes=True, normalize_pose=False, output=sum)
    """
    sizes = {"num_children": num_children, "num_parents": num_parents, "pose_dim": pose_dim}
    place = {**sizes, "feeds_capsules": feeds_capsules}
    if isinstance(router, Router):
        _check_fits(router, sizes, feeds_capsules)
        return router
    if not callable(router):
        raise ValueError(f"router must be a router, its class or functools.partial of it, got {router!r}")
    for name in place:
        if isinstance(router, functools.partial) and name in router.keywords:
            raise ValueError(f"{name} follows from the router's place in the network; leave it out")
    wanted = inspect.signature(router).parameters
    given = {name: value for name, value in place.items() if name in wanted}
    with torch.random.fork_rng(devices=[]):
        seed = torch.randint(2**62, (), device="cpu")  # also where a network is made on the "meta" device
        torch.default_generator.manual_seed(int(seed))  # else the next layer draws the same numbers
        made = router(**given)
    if not isinstance(made, Router):
        raise ValueError(f"router must make a capsbench.routing.Router, got {type(made).__name__}")
    is_told = "feeds_capsules" in given  # and then may do as it likes
    _check_fits(made, sizes, None if is_told else feeds_capsules)
    return made


def _check_fits(router: Router, sizes: dict[str, int], feeds_capsules: bool | None) -> None:
    kind = type(router).__name__
    try:
        router.check_place(**sizes)
    except ValueError as error:
        raise ValueError(f"{error} from the layer; give it {kind} itself, and it makes one that fits") from None
    if not router.shares_within_places:
        raise ValueError(f"this {kind} divides the children of another layer among places; give each layer its own")
    theirs = getattr(router, "feeds_capsules", feeds_capsules)
    if feeds_capsules is not None and theirs != feeds_capsules:
        said = "feeds no capsules, but the layer does" if feeds_capsules else "feeds capsules, but the layer does not"
        raise ValueError(f"this {kind} {said}; give it {kind} itself, or set feeds_capsules={not theirs}")
