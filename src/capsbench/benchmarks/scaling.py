"""The time of a capsule layer as children, parents and examples increase."""

from collections.abc import Mapping
from functools import partial

import torch

from capsbench.benchmarks.layer import forward_and_backward
from capsbench.benchmarks.measure import Measurement, interleaved
from capsbench.benchmarks.routers import VOTES_ALONE, NoRouting
from capsbench.capsules import CapsuleLayer, FullTransform, RouterFactory
from capsbench.routing import Capsules

BASE = {"children": 256, "parents": 10, "batch": 64}
SIZES = {"children": (64, 256, 1024, 4096), "parents": (2, 10, 50, 100), "batch": (16, 64, 256, 1024)}


def benchmark_scaling(
    routers: Mapping[str, RouterFactory], repetitions: int, device: torch.device
) -> list[Measurement]:
    """Measure each router's layer (8 to 16 dimensions), forward and backward, with one size varied at a time.

    Returns:
        Milliseconds of each router, and of the votes alone as a reference; the subject is what was varied, to `size`.
    """
    found = []
    layers: dict[str | None, RouterFactory] = {None: NoRouting}
    layers.update(routers)
    for varied, sizes in SIZES.items():
        for size in sizes:
            at = BASE | {varied: size}
            poses = torch.randn(at["batch"], at["children"], 8, device=device, requires_grad=True)
            children = Capsules(poses, torch.rand(at["batch"], at["children"], device=device))
            ways = {
                router: partial(
                    forward_and_backward,
                    CapsuleLayer(FullTransform(at["children"], at["parents"], 8, 16), factory).to(device),
                    children,
                )
                for router, factory in layers.items()
            }
            for router, values in interleaved(ways, repetitions).items():
                way = VOTES_ALONE if router is None else None
                record = partial(Measurement.of, values, varied, "forward and backward", "ms", size=size)
                found.append(record(router=router, implementation=way))
    return found
