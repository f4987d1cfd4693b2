"""What a capsule layer costs as children, parents and examples become more."""

from functools import partial

import torch

from capsbench.benchmarks.layer import ROUTERS, forward_and_backward
from capsbench.benchmarks.measure import Measured, interleaved, spread
from capsbench.capsules import CapsuleLayer, FullTransform
from capsbench.routing import Capsules

BASE = {"children": 256, "parents": 10, "batch": 64}
SIZES = {"children": (64, 256, 1024, 4096), "parents": (2, 10, 50, 100), "batch": (16, 64, 256, 1024)}


def benchmark_scaling(repetitions: int, device: torch.device) -> Measured:
    """Milliseconds, forward and backward, of each router's layer (8 to 16 dimensions), one size varied at a time.

    Returns:
        For each "varied = size, router" the median, least and most.
    """
    summary: Measured = {}
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
                for router, factory in ROUTERS.items()
            }
            times = interleaved(ways, repetitions)
            summary |= {f"{varied} = {size}, {router}: ms": spread(values) for router, values in times.items()}
    return summary
