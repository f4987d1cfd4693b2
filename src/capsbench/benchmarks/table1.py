"""The paper's table 1: milliseconds that CapsNet takes for a batch, router by router."""

import time
from functools import partial

import torch

from capsbench.benchmarks.spread import spread
from capsbench.capsules import RouterFactory
from capsbench.models import CapsNet
from capsbench.routing import DynamicRouting, FMAgreement

SHAPES = {"CIFAR-10": (3, 32, 32), "Fashion-MNIST": (1, 28, 28)}
ROUTERS: dict[str, RouterFactory] = {
    "dynamic(1)": partial(DynamicRouting, iterations=1),
    "dynamic(3)": partial(DynamicRouting, iterations=3),
    "FM": FMAgreement,
}


@torch.inference_mode()
def benchmark_table1(repetitions: int = 5, batch_size: int = 128) -> dict[str, dict[str, float]]:
    """Milliseconds per batch of whole models in evaluation mode, on the CPU and on the GPU where there is one.

    Returns:
        For each "shape, device, router" the median, least and most, measured in turn; for each router but FM also its
        ratio to FM, repetition by repetition.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    summary: dict[str, dict[str, float]] = {}
    for data, shape in SHAPES.items():
        for device in devices:
            images = torch.rand(batch_size, *shape, device=device)
            models = {name: CapsNet(shape, 10, router).to(device).eval() for name, router in ROUTERS.items()}
            times: dict[str, list[float]] = {name: [] for name in models}
            for repetition in range(repetitions + 1):
                for name, model in models.items():
                    start = time.perf_counter()
                    model(images)
                    if device == "cuda":
                        torch.cuda.synchronize()
                    if repetition:  # the first warms up
                        times[name].append(1000 * (time.perf_counter() - start))
            where = f"{data}, {device.upper()}"
            summary |= {f"{where}, {name}: ms": spread(values) for name, values in times.items()}
            for name in models:
                if name != "FM":
                    ratios = [other / fm for other, fm in zip(times[name], times["FM"], strict=True)]
                    summary[f"{where}, {name} ÷ FM"] = spread(ratios)
    return summary
