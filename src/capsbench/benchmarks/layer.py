"""Capsule layers alone: milliseconds and memory of each router and implementation, and the floor below them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from capsbench.benchmarks.measure import Measured, interleaved, peak_bytes, ratio, spread
from capsbench.capsules import CapsuleLayer, FullTransform, MatrixTransform, RouterFactory, VoteNormKind
from capsbench.routing import Capsules, DynamicRouting, EMRouting, FMAgreement

ROUTERS: dict[str, RouterFactory] = {
    "FM": FMAgreement,
    "dynamic(1)": partial(DynamicRouting, iterations=1),
    "dynamic(3)": partial(DynamicRouting, iterations=3),
    "EM(2)": partial(EMRouting, iterations=2),
}
IMPLEMENTATIONS = ("plain", "fused", "auto")


class Shape(NamedTuple):
    """A capsule layer of one of the networks."""

    transform: Callable[[], FullTransform | MatrixTransform]
    vote_norm: VoteNormKind = "none"


SHAPES = {
    "CapsNet, 1152 to 10": Shape(partial(FullTransform, 1152, 10, 8, 16)),
    "ResNet, 64 to 32": Shape(partial(MatrixTransform, 64, 32, 16), "shared"),
    "small ResNet, 100 to 10": Shape(partial(MatrixTransform, 100, 10, 16), "shared"),
}


def benchmark_layer(repetitions: int, batch_size: int, device: torch.device) -> Measured:
    """Milliseconds forward, and forward and backward, of capsule layers in training, and their extra memory.

    Beside them the product that forms the votes alone, and the floor: the bytes and the arithmetic that the result
    takes, at the speeds of a copy and of a matrix product on this device.

    Returns:
        For each "shape, router, implementation" the times; memory in units of the votes; ratios, turn by turn: to the
        product alone, to the plain implementation, and to the floor.
    """
    summary: Measured = {}
    bandwidth, rate = _speeds(device)
    summary["copy: GB/s"], summary["matrix product: GFLOP/s"] = spread([bandwidth / 1e9]), spread([rate / 1e9])
    for name, shape in SHAPES.items():
        summary |= {
            f"{name}, {what}": value for what, value in _of_shape(shape, repetitions, batch_size, device).items()
        }
        floor = 1000 * _floor_seconds(shape, batch_size, bandwidth, rate)
        for implementation in ("fused", "auto"):
            fm = summary[f"{name}, FM {implementation}, forward: ms"]
            summary[f"{name}, FM {implementation} ÷ floor, forward"] = {k: v / floor for k, v in fm.items()}
        summary[f"{name}, floor of FM, forward: ms"] = spread([floor])
    return summary


def _of_shape(shape: Shape, repetitions: int, batch_size: int, device: torch.device) -> Measured:
    transform = shape.transform()
    num_children, num_parents = transform.weight.shape[:2]
    child_dim = transform.weight.shape[2] if isinstance(transform, FullTransform) else transform.pose_dim
    poses = torch.randn(batch_size, num_children, child_dim, device=device, requires_grad=True)
    children = Capsules(poses, torch.rand(batch_size, num_children, device=device))
    transform.to(device)

    forward: dict[str, Callable[[], object]] = {"votes alone": _without_gradients(lambda: transform(poses))}
    both: dict[str, Callable[[], object]] = {}
    for router, factory in ROUTERS.items():
        for implementation in IMPLEMENTATIONS:
            layer = CapsuleLayer(
                shape.transform(), partial(factory, implementation=implementation), vote_norm=shape.vote_norm
            ).to(device)
            forward[f"{router} {implementation}"] = _without_gradients(partial(layer, children))
            both[f"{router} {implementation}"] = partial(forward_and_backward, layer, children)

    votes_bytes = 4 * batch_size * num_children * num_parents * transform.pose_dim
    summary: Measured = {"votes: MB": spread([votes_bytes / 1e6])}
    for direction, ways in (("forward", forward), ("forward and backward", both)):
        times = interleaved(ways, repetitions)
        summary |= {f"{way}, {direction}: ms": spread(values) for way, values in times.items()}
        for router in ROUTERS:
            for implementation in IMPLEMENTATIONS:
                way = f"{router} {implementation}"
                if "votes alone" in ways:
                    summary[f"{way} ÷ votes alone, {direction}"] = ratio(times, way, "votes alone")
                if implementation != "plain":
                    summary[f"{way} ÷ plain, {direction}"] = ratio(times, way, f"{router} plain")
    for way, run in both.items():
        summary[f"{way}: extra memory ÷ votes, training"] = spread([peak_bytes(run, device) / votes_bytes])
    return summary


def forward_and_backward(layer: CapsuleLayer, children: Capsules) -> tuple[Tensor, ...]:
    """What training does with the layer; the gradients are new each time."""
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
    """Bytes per second of a copy, read and written, and floating-point operations per second of a matrix product."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    side = 4096 if device.type == "cuda" else 1024
    matrix = torch.rand(side, side, device=device)
    times = interleaved({"copy": lambda: target.copy_(source), "product": lambda: matrix @ matrix}, repetitions=5)
    return 2 * 4 * source.numel() / (min(times["copy"]) / 1000), 2 * side**3 / (min(times["product"]) / 1000)


def _floor_seconds(shape: Shape, batch_size: int, bandwidth: float, rate: float) -> float:
    """The longer of: reading children and weights once, and multiplying them, at full speed."""
    transform = shape.transform()
    num_children, num_parents, inner, _ = transform.weight.shape
    child_dim = inner if isinstance(transform, FullTransform) else transform.pose_dim
    read = 4 * (batch_size * num_children * child_dim + transform.weight.numel())
    votes = batch_size * num_children * num_parents * transform.pose_dim
    operations = votes * (2 * inner + 6)  # the product; squared for the length, scaled, added up, squared, added up
    return max(read / bandwidth, operations / rate)
