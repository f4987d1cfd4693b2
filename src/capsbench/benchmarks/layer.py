"""Capsule layers alone: time and memory of each router and implementation, and what they are measured against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from capsbench.benchmarks.bounds import FLOOR, Speeds, Work, bytes_that_must_move, measure_speeds
from capsbench.benchmarks.einsum import EINSUM, as_einsum
from capsbench.benchmarks.measure import Measurement, interleaved, peak_bytes, ratios
from capsbench.benchmarks.routers import (
    OPERATIONS,
    VOTES_ALONE,
    NoRouting,
    implement,
    implementations,
    operations,
)
from capsbench.capsules import CapsuleLayer, FullTransform, MatrixTransform, RouterFactory, VoteNormKind
from capsbench.routing import Capsules

DIRECTIONS = ("forward", "forward and backward")
Way = tuple[str | None, str]
"""A router, if one is used, and an implementation."""


class Shape(NamedTuple):
    """A capsule layer without its router."""

    transform: Callable[[], FullTransform | MatrixTransform]
    vote_norm: VoteNormKind = "none"


SHAPES = {
    "CapsNet, 1152 to 10": Shape(partial(FullTransform, 1152, 10, 8, 16)),
    "ResNet, 64 to 32": Shape(partial(MatrixTransform, 64, 32, 16), "shared"),
    "small ResNet, 100 to 10": Shape(partial(MatrixTransform, 100, 10, 16), "shared"),
}
"""Capsule layers of the networks."""


def full_transform(children: int, parents: int, dims: Sequence[int]) -> dict[str, Shape]:
    """Name and make the shape of a layer with a full transform, such as CapsNet's.

    Args:
        children, parents: how many capsules there are.
        dims: of a child's pose and of a parent's.
    """
    name = f"{children} to {parents}, {dims[0]} to {dims[1]} dimensions"
    return {name: Shape(partial(FullTransform, children, parents, dims[0], dims[1]))}


def benchmark_layer(
    routers: Mapping[str, RouterFactory],
    repetitions: int,
    batches: Sequence[int],
    device: torch.device,
    shapes: Mapping[str, Shape] | None = None,
) -> list[Measurement]:
    """Measure capsule layers: milliseconds of inference and of training, extra memory, and operations.

    The reference pass in each turn forms the votes alone. Where a layer can be written in a few lines of einsum, that
    takes its turn, too.

    Args:
        routers: by name.
        repetitions: of each way, in turn.
        batches: examples in a batch.
        device: to measure on.
        shapes: of layers; None: those of the networks.

    Returns:
        For each shape, batch, router and implementation times in ms, the peak of extra memory in multiples of the
        votes, the bytes that must move in a second, and ratios to the votes alone, to the plain implementation, to the
        plain einsum, and to the arithmetic floor: the time of the multiply-adds alone at this device's speed of a
        matrix product. For each router the operations of a pass, counted on the plain path, and the bytes that must
        move.
    """
    speeds = measure_speeds(device)
    found = [
        Measurement.of([speeds.bandwidth / 1e9], "copy", "bandwidth", "GB/s"),
        Measurement.of([speeds.rate / 1e9], "matrix product", "rate", "GFLOP/s"),
    ]
    for name, shape in (SHAPES if shapes is None else shapes).items():
        for batch in batches:
            of_shape = _of_shape(name, shape, routers, repetitions, batch, device, speeds)
            found += [replace(one, size=batch) for one in of_shape]
    return found


def _of_shape(
    name: str,
    shape: Shape,
    routers: Mapping[str, RouterFactory],
    repetitions: int,
    batch: int,
    device: torch.device,
    speeds: Speeds,
) -> list[Measurement]:
    layers = _layers(shape, routers, device)
    transform = shape.transform()
    child_dim = transform.weight.shape[2] if isinstance(transform, FullTransform) else transform.pose_dim
    leaf = torch.randn(batch, transform.num_children, child_dim, device=device, requires_grad=True)
    poses = leaf.clone()  # of leaves that a module gets, the counter of operations cannot follow the gradient
    children = Capsules(poses, torch.rand(batch, transform.num_children, device=device))
    forward: dict[Way, Callable[[], object]] = {way: partial(infer, layer, children) for way, layer in layers.items()}
    both: dict[Way, Callable[[], object]] = {
        way: partial(forward_and_backward, layer, children) for way, layer in layers.items()
    }
    times = [interleaved(ways, repetitions) for ways in (forward, both)]  # inference, then training

    votes_bytes = 4 * batch * transform.num_children * transform.num_parents * transform.pose_dim
    found = [Measurement.of([votes_bytes / 1e6], name, "votes", "MB")]
    for (router, way), run in both.items():
        record = partial(Measurement.of, subject=name, router=router, implementation=way)
        found.append(record([peak_bytes(run, device) / votes_bytes], quantity="extra memory", unit="÷ votes"))
    for router in (None, *routers):
        way = VOTES_ALONE if router is None else "auto"
        record = partial(Measurement.of, subject=name, router=router, implementation=way)
        layer = layers[router, way]
        assert isinstance(layer, CapsuleLayer)
        implement(layer, "plain")  # the arithmetic of blocks is the same, and done twice
        for direction, ways, taken in zip(DIRECTIONS, (forward, both), times, strict=True):
            backward = direction != DIRECTIONS[0]
            moved = bytes_that_must_move(layer, children, backward=backward)
            work = Work(*operations(ways[router, way], gradients=backward), moved)
            if not backward:
                found += [
                    record([count / 1e6], quantity=quantity, unit="M")
                    for quantity, count in zip(OPERATIONS, work[:2], strict=True)
                ]
            found.append(record([work.operations / 1e6], quantity=direction, unit="M operations"))
            found.append(record([work.bytes / 1e6], quantity=direction, unit="MB that must move"))
            found += _timed(name, direction, router, taken, work, speeds)
    return found


def _layers(shape: Shape, routers: Mapping[str, RouterFactory], device: torch.device) -> dict[Way, nn.Module]:
    """Make a layer for each router and implementation, and one that forms the votes alone."""
    layers: dict[Way, nn.Module] = {(None, VOTES_ALONE): CapsuleLayer(shape.transform(), NoRouting).to(device)}
    for router, factory in routers.items():
        make = partial(CapsuleLayer, router=factory, vote_norm=shape.vote_norm)
        for implementation in implementations(make(shape.transform())):
            layers[router, implementation] = make(shape.transform()).to(device)
            implement(layers[router, implementation], implementation)
        written = as_einsum(make(shape.transform()))
        if written is not None:
            layers[router, EINSUM] = written.to(device)
    return layers


def _timed(
    name: str, direction: str, router: str | None, times: Mapping[Way, list[float]], work: Work, speeds: Speeds
) -> list[Measurement]:
    """The times of each way of a router, and what they are measured against."""
    found = []
    for implementation, values in ((way, values) for (who, way), values in times.items() if who == router):
        series = {"ms": values, "GB/s": [work.bytes / 1e6 / value for value in values]}
        references = {VOTES_ALONE: (None, VOTES_ALONE), "plain": (router, "plain"), EINSUM: (router, EINSUM)}
        for title, reference in references.items():
            if reference in times and reference != (router, implementation):
                series[f"÷ {title}"] = ratios(values, times[reference])
        if work.multiply_adds:
            series[f"÷ {FLOOR}"] = [value / work.floor_ms(speeds) for value in values]
        found += [
            Measurement.of(numbers, name, direction, unit, router=router, implementation=implementation)
            for unit, numbers in series.items()
        ]
    return found


def forward_and_backward(layer: nn.Module, children: Capsules) -> tuple[Tensor, ...]:
    """Run the layer as training does, and return its gradients."""
    parents = layer.train()(children)
    sources = [children.poses, *layer.parameters()]
    loss = parents.poses.square().sum() + parents.activations.sum()
    return torch.autograd.grad(loss, sources, allow_unused=True)


@torch.no_grad()
def infer(layer: nn.Module, children: Capsules) -> Capsules:
    """Run the layer as inference does."""
    parents: Capsules = layer.eval()(children)
    return parents
