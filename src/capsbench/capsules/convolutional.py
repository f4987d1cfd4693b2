"""The convolutional capsule layer: a capsule layer at each place of a map, with one set of weights for all places."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from capsbench.capsules.layer import CapsuleLayer, unpack
from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, VoteNorm, VoteNormKind
from capsbench.capsules.transforms import FullTransform, MatrixTransform, check_poses
from capsbench.routing import Capsules, Router, RouterFactory, check_choice
from capsbench.routing.kernels.recompute import add_to_part, gradients_again, part_of
from capsbench.routing.transformations import is_transformed

Competition = Literal["place", "all"]

CHUNK_BYTES = 2**21
"""Bytes of votes that are stored at once, which fit into a CPU core's cache."""


class ConvCapsuleLayer(nn.Module):
    """Route the capsules within each window of a map to the parents of one place of the next map.

    A map's capsules are in the order row, column, type, as `PrimaryCapsules` gives them. The children of a place are in
    the order kernel row, kernel column, type. Children outside the map have pose and activation 0.

    Any router works, since places are to it what examples are. Dynamic, EM and VB routing divide each child among
    parents. With `competition="all"` these are the parents of all places that see the child, as in Hinton et al. and
    Gritzman 2019 (arXiv:1907.00652); a router of such a layer serves no other. With "place" a child divides itself
    anew at each place.

    Many votes are computed for some places at a time (for whole examples with "all"), and again in the backward pass,
    unless the router's implementation is set. So memory grows with the capsules, not with their votes.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR 2018), §1.1 and fig. 1.

    Args:
        transform: of kernel_size² · types children.
        router: a router, its class or `functools.partial` of it, see `CapsuleLayer`.
        grid: (rows, columns) of the child map.
        kernel_size, stride, padding: of the windows, in places.
        competition: see above; None takes the router's `default_competition`.
        vote_norm, vote_gain, feeds_capsules, batch_norm_momentum: see `CapsuleLayer`.

    Attributes:
        parent_grid: (rows, columns) of the parent map.
        num_capsules: parents of the whole map.

    Raises:
        ValueError: kernel_size, stride or padding is too small, a window has fewer than two children or does not fit
            into the map, the transform's children cannot be divided among the window's places, competition is unknown,
            or it is "all" and the router divides no children or is `implementation="fused"`.

    >>> from capsbench.routing import FMAgreement
    >>> transform = MatrixTransform(num_children=3 * 3 * 8, num_parents=16, pose_dim=16)
    >>> layer = ConvCapsuleLayer(transform, FMAgreement, grid=(12, 12), kernel_size=3, stride=2)
    >>> children = Capsules(torch.randn(2, 12 * 12 * 8, 16), torch.rand(2, 12 * 12 * 8))
    >>> layer(children).poses.shape, layer.parent_grid  # (batch, place · parent, dim)
    (torch.Size([2, 400, 16]), (5, 5))
    """

    __call__: Callable[..., Capsules]

    def __init__(
        self,
        transform: FullTransform | MatrixTransform,
        router: Router | RouterFactory,
        *,
        grid: tuple[int, int],
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        competition: Competition | None = None,
        vote_norm: VoteNormKind = "none",
        vote_gain: float | None = None,
        feeds_capsules: bool = False,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        if competition is not None:
            check_choice("competition", competition, "place", "all")
        for name, value, least in (("kernel_size", kernel_size, 1), ("stride", stride, 1), ("padding", padding, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        num_children, num_parents = transform.num_children, transform.num_parents
        num_types, rest = divmod(num_children, kernel_size**2)
        if rest:
            raise ValueError(
                f"the transform's {num_children} children must be kernel_size² · types, with kernel_size={kernel_size}"
            )
        if num_children < 2:
            raise ValueError("a parent of one child has no agreement; take a larger kernel or more types of children")
        rows, columns = ((size + 2 * padding - kernel_size) // stride + 1 for size in grid)
        if min(rows, columns) < 1:
            raise ValueError(f"a window of {kernel_size}×{kernel_size} does not fit into a map of {grid[0]}×{grid[1]}")
        self.grid, self.parent_grid = grid, (rows, columns)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.num_types, self.num_capsules = num_types, rows * columns * num_parents
        self.layer = CapsuleLayer(
            transform,
            router,
            vote_norm=vote_norm,
            vote_gain=vote_gain,
            feeds_capsules=feeds_capsules,
            batch_norm_momentum=batch_norm_momentum,
        )
        self.competition = competition or self.layer.router.default_competition
        if self.competition == "all":
            self._compete()

    def forward(self, children: Capsules | Tensor) -> Capsules:
        """Map child capsules, or poses alone, (batch, row · column · type, d) to parents (batch, place · parent, k).

        Raises:
            ValueError: children are of another map or of other dimensions, or the router needs activations and there
                are none.
        """
        poses, activations = unpack(children, self.layer.router)
        (rows, columns), types = self.grid, self.num_types
        where = f", {types} at each place of a {rows}×{columns} map"
        check_poses(poses, rows * columns * types, self.layer.transform.child_dim, where)
        windows = [self._windows(poses)]
        if activations is not None:
            if activations.shape != poses.shape[:2]:
                raise ValueError(
                    f"activations must have the shape (batch, child) = {tuple(poses.shape[:2])}, "
                    f"got {tuple(activations.shape)}"
                )
            windows.append(self._windows(activations.unsqueeze(-1)).squeeze(-1))
        parents = self.layer(_packed(*windows)) if self._fits(windows[0]) else self._in_chunks(windows)
        batch = poses.shape[0]
        dim = parents.poses.shape[-1]
        return Capsules(
            parents.poses.reshape(batch, self.num_capsules, dim), parents.activations.reshape(batch, self.num_capsules)
        )

    def _windows(self, values: Float[Tensor, "batch child d"]) -> Float[Tensor, "rows slot d"]:
        at_places = values.reshape(values.shape[0], *self.grid, self.num_types, values.shape[2])
        return self._cut(F.pad(at_places, (0, 0, 0, 0, *[self.padding] * 4))).flatten(0, 1)

    def _cut(self, padded: Tensor) -> Tensor:
        """Cut each place's window out of (batch, row, column, type, d): (batch, place, slot, d)."""
        cut = padded.unfold(1, self.kernel_size, self.stride).unfold(2, self.kernel_size, self.stride)
        return cut.permute(0, 1, 2, 5, 6, 3, 4).flatten(3, 5).flatten(1, 2)

    def _compete(self) -> None:
        """Let the router divide a child among the parents of all places that see it."""
        router = self.layer.router
        if not router.divides_children:
            raise ValueError(f'{type(router).__name__} divides no children; take competition="place"')
        if router.implementation == "fused":
            raise ValueError('competition="all" stores all votes; take implementation="auto"')
        router.share = self.share_among_all

    def share_among_all(self, logits: Float[Tensor, "rows slot parent"]) -> Float[Tensor, "rows slot parent"]:
        """Divide each child among the parents of all places that see it: a softmax over them all.

        Args:
            logits: (batch · place, slot, parent).
        """
        of_places = logits.logsumexp(dim=-1)  # (batch · place, slot): each place's part in the sum, as a logarithm
        largest = self._over_places(of_places.detach(), "amax")
        total = self._over_places((of_places - self._at_slots(largest)).exp(), "sum")
        # A padded slot has a child of its own; it weighs nothing.
        return (logits - self._at_slots(largest + total.log()).unsqueeze(-1)).exp()

    def _over_places(self, of_slots: Float[Tensor, "rows slot"], reduce: str) -> Float[Tensor, "batch child"]:
        """Reduce what the slots of all places hold to the children that are in them."""
        numbers = self._numbers(of_slots.device)
        by_example = of_slots.reshape(-1, numbers.numel())
        start = -torch.inf if reduce == "amax" else 0.0
        padded = math.prod(size + 2 * self.padding for size in self.grid)
        children = by_example.new_full((by_example.shape[0], padded * self.num_types), start)
        where = numbers.flatten().expand_as(by_example)
        if reduce == "amax":
            return children.scatter_reduce(1, where, by_example, "amax")
        return children.scatter_add(1, where, by_example)

    def _at_slots(self, of_children: Float[Tensor, "batch child"]) -> Float[Tensor, "rows slot"]:
        """Look up each slot's child."""
        numbers = self._numbers(of_children.device)
        return of_children[:, numbers.flatten()].reshape(-1, numbers.shape[1])

    def _numbers(self, device: torch.device) -> Tensor:
        """Return the number of the child in each slot of each place, (place, slot), in the padded map."""
        padded = [size + 2 * self.padding for size in self.grid]
        numbers = torch.arange(math.prod(padded) * self.num_types, device=device)
        return self._cut(numbers.view(1, *padded, self.num_types, 1)).flatten(0, 1).squeeze(-1)

    def _fits(self, poses: Float[Tensor, "rows slot d"]) -> bool:
        """Whether to route all rows at once: few, as was asked for, transformed, or normalised over the batch."""
        norm = self.layer.vote_norm
        is_normed = isinstance(norm, VoteNorm) and norm.norm.training
        if is_transformed():
            return True
        return is_normed or self.layer.router.implementation != "auto" or self._rows(poses) >= len(poses)

    def _rows(self, poses: Float[Tensor, "rows slot d"]) -> int:
        """Return how many rows make a chunk: places, or whole examples where parents of all places compete."""
        transform, together = self.layer.transform, math.prod(self.parent_grid) if self.competition == "all" else 1
        votes = together * transform.num_children * transform.num_parents * transform.pose_dim
        return together * max(1, CHUNK_BYTES // (votes * poses.element_size()))

    def _in_chunks(self, windows: list[Tensor]) -> Capsules:
        """Route some rows at a time, then normalise over the batch."""
        names, weights = zip(*self._weights(), strict=True)

        def route(*tensors: Tensor) -> tuple[Tensor, ...]:
            named = dict(zip(names, tensors[len(windows) :], strict=True))
            parents: Capsules = functional_call(
                self.layer, named, (_packed(*tensors[: len(windows)]),), {"normalise": False}
            )
            return parents

        rows = self._rows(windows[0])
        parents = _InChunks.apply(route, rows, len(windows), *windows, *weights)
        kind = windows[0].device.type
        dtype = parents[0].dtype if torch.is_autocast_enabled(kind) else self.layer.transform.weight.dtype
        with torch.autocast(kind, enabled=False):  # as in the router
            normed = self.layer.router.normalise(Capsules(*parents))
        return Capsules(normed.poses.to(dtype), normed.activations.to(dtype))

    def _weights(self) -> list[tuple[str, Tensor]]:
        """Return the weights by name; those of a replica that `torch.nn.DataParallel` makes are no parameters."""
        return list(self.layer.named_parameters()) or [
            (f"{path}.{name}", weight)
            for path, module in self.layer.named_modules()
            for name, weight in module._former_parameters.items()
        ]

    def extra_repr(self) -> str:
        return (
            f"grid={self.grid}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"competition={self.competition}"
        )


def _packed(poses: Tensor, activations: Tensor | None = None) -> Capsules | Tensor:
    return poses if activations is None else Capsules(poses, activations)


class _InChunks(torch.autograd.Function):
    """Route some rows at a time, in the backward pass once more. The results of all rows lie in one piece of memory:
    between chunks, `torch.utils.checkpoint` would leave holes in it as large as all votes."""

    @staticmethod
    def forward(
        ctx: Any, route: Callable[..., tuple[Tensor, ...]], rows: int, cut: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Of `tensors` the first `cut` are poses and perhaps activations of the windows, the others weights."""
        ctx.route, ctx.rows, ctx.cut = route, rows, cut
        ctx.save_for_backward(*tensors)
        kind = tensors[0].device.type
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        wholes: tuple[Tensor, ...] = ()
        for chunk in _chunks(len(tensors[0]), rows):
            parts = route(*(tensor[chunk] for tensor in tensors[:cut]), *tensors[cut:])
            wholes = wholes or tuple(part.new_empty(len(tensors[0]), *part.shape[1:]) for part in parts)
            for whole, part in zip(wholes, parts, strict=True):
                whole[chunk] = part
        return wholes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        axes = [0 if number < ctx.cut else None for number in range(len(tensors))]
        totals = {number: torch.zeros_like(tensor) for number, tensor in enumerate(tensors) if wanted[number]}
        for chunk in _chunks(len(tensors[0]), ctx.rows):
            inputs = [part_of(tensor, axis, chunk) for tensor, axis in zip(tensors, axes, strict=True)]
            seeds = [gradient[chunk] for gradient in gradients]
            with torch.autocast(*ctx.autocast):
                found = gradients_again(ctx.route, inputs, wanted, seeds)
            for number, gradient in enumerate(found):
                if gradient is not None:
                    totals[number] = add_to_part(totals[number], axes[number], chunk, gradient)
        return None, None, None, *(totals.get(number) for number in range(len(tensors)))


def _chunks(size: int, rows: int) -> list[slice]:
    return [slice(start, min(start + rows, size)) for start in range(0, size, rows)]
