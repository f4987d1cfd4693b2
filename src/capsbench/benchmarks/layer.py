"""Capsule layers alone: time and memory of each router and implementation, and the lower bound of the time."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

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

FM = "fm"
Way = tuple[str | None, str]
"""A router, if one is used, and an implementation."""


class Shape(NamedTuple):
    """A capsule layer of one of the networks."""

    transform: Callable[[], FullTransform | MatrixTransform]
    vote_norm: VoteNormKind = "none"


SHAPES = {
    "CapsNet, 1152 to 10": Shape(partial(FullTransform, 1152, 10, 8, 16)),
    "ResNet, 64 to 32": Shape(partial(MatrixTransform, 64, 32, 16), "shared"),
    "small ResNet, 100 to 10": Shape(partial(MatrixTransform, 100, 10, 16), "shared"),
}


def benchmark_layer(
    routers: Mapping[str, RouterFactory], repetitions: int, batch_size: int, device: torch.device
) -> list[Measurement]:
    """Measure capsule layers in training: milliseconds forward, forward and backward, extra memory, and operations.

    The reference pass in each turn forms the votes alone. FM has a lower bound ("floor"): the time to move and multiply
    what the result depends on, at this device's speed of a copy and of a matrix product.

    Returns:
        For each shape, router and implementation times in ms, the peak of extra memory in multiples of the votes, and
        ratios to the votes alone, to the plain implementation and to the floor; for each router millions of operations
        of a forward pass, counted on the plain path.
    """
    bandwidth, rate = _speeds(device)
    found = [
        Measurement.of([bandwidth / 1e9], "copy", "bandwidth", "GB/s"),
        Measurement.of([rate / 1e9], "matrix product", "rate", "GFLOP/s"),
    ]
    for name, shape in SHAPES.items():
        found += _of_shape(name, shape, routers, repetitions, batch_size, device)
        if FM in routers:
            floor = 1000 * _floor_seconds(shape, batch_size, bandwidth, rate)
            found.append(Measurement.of([floor], name, "forward", "ms", router=FM, implementation="floor"))
            found += [
                m.divided_by(floor, "÷ floor")
                for m in found
                if (m.subject, m.router, m.quantity, m.unit) == (name, FM, "forward", "ms")
                and m.implementation in ("fused", "auto")
            ]
    return found


def _of_shape(
    name: str,
    shape: Shape,
    routers: Mapping[str, RouterFactory],
    repetitions: int,
    batch_size: int,
    device: torch.device,
) -> list[Measurement]:
    transform = shape.transform().to(device)
    num_children, num_parents = transform.weight.shape[:2]
    child_dim = transform.weight.shape[2] if isinstance(transform, FullTransform) else transform.pose_dim
    poses = torch.randn(batch_size, num_children, child_dim, device=device, requires_grad=True)
    children = Capsules(poses, torch.rand(batch_size, num_children, device=device))
    layers: dict[Way, CapsuleLayer] = {(None, VOTES_ALONE): CapsuleLayer(shape.transform(), NoRouting).to(device)}
    for router, factory in routers.items():
        make = partial(CapsuleLayer, router=factory, vote_norm=shape.vote_norm)
        for implementation in implementations(make(shape.transform())):
            layers[router, implementation] = make(shape.transform()).to(device)
            implement(layers[router, implementation], implementation)

    forward = {way: _without_gradients(partial(layer, children)) for way, layer in layers.items()}
    both: dict[Way, Callable[[], object]] = {
        way: partial(forward_and_backward, layer, children) for way, layer in layers.items()
    }
    votes_bytes = 4 * batch_size * num_children * num_parents * transform.pose_dim
    found = [Measurement.of([votes_bytes / 1e6], name, "votes", "MB")]
    for direction, ways in (("forward", forward), ("forward and backward", both)):
        found += _timed(name, direction, interleaved(ways, repetitions))
    for (who, way), run in both.items():
        record = partial(Measurement.of, subject=name, router=who, implementation=way)
        found.append(record([peak_bytes(run, device) / votes_bytes], quantity="extra memory", unit="÷ votes"))
        if way in (VOTES_ALONE, "auto"):
            implement(layers[who, way], "plain")  # the arithmetic of blocks is the same, and done twice
            counts = operations(forward[who, way])
            found += [
                record([count / 1e6], quantity=quantity, unit="M")
                for quantity, count in zip(OPERATIONS, counts, strict=True)
            ]
    return found


def _timed(name: str, direction: str, times: Mapping[Way, list[float]]) -> list[Measurement]:
    """The times of each way, and their ratios to the votes alone and to the plain implementation."""
    found = []
    for (router, implementation), values in times.items():
        series = {"ms": values}
        if router is not None and (None, VOTES_ALONE) in times:
            series[f"÷ {VOTES_ALONE}"] = ratios(values, times[None, VOTES_ALONE])
        if implementation != "plain" and (router, "plain") in times:
            series["÷ plain"] = ratios(values, times[router, "plain"])
        found += [
            Measurement.of(numbers, name, direction, unit, router=router, implementation=implementation)
            for unit, numbers in series.items()
        ]
    return found


def forward_and_backward(layer: CapsuleLayer, children: Capsules) -> tuple[Tensor, ...]:
    """Run the layer as training does, and return its gradients."""
    parents = layer(children)
    sources = [children.poses, *layer.parameters()]
    loss = parents.poses.square().sum() + parents.activations.sum()
    return torch.autograd.grad(loss, sources, allow_unused=True)


def _without_gradients(way: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return way()

    return run


def _speeds(device: torch.device) -> tuple[float, float]:
    """Measure a copy in bytes per second, read and written, and a matrix product in operations per second."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    side = 4096 if device.type == "cuda" else 1024
    matrix = torch.rand(side, side, device=device)
    times = interleaved({"copy": lambda: target.copy_(source), "product": lambda: matrix @ matrix}, repetitions=5)
    return 2 * 4 * source.numel() / (min(times["copy"]) / 1000), 2 * side**3 / (min(times["product"]) / 1000)


def _floor_seconds(shape: Shape, batch_size: int, bandwidth: float, rate: float) -> float:
    """Bound the time of FM from below: children and weights are read once and multiplied, whichever takes longer."""
    transform = shape.transform()
    num_children, num_parents, inner, _ = transform.weight.shape
    child_dim = inner if isinstance(transform, FullTransform) else transform.pose_dim
    read = 4 * (batch_size * num_children * child_dim + transform.weight.numel())
    votes = batch_size * num_children * num_parents * transform.pose_dim
    operations = votes * (2 * inner + 6)  # the product; square for the length, scale, sum, square, sum
    return max(read / bandwidth, operations / rate)
