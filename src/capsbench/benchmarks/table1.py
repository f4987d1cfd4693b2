"""The paper's table 1: milliseconds of CapsNet's forward pass with each router."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from capsbench.benchmarks.measure import Measurement, interleaved, ratios
from capsbench.benchmarks.routers import NO_ROUTING, NoRouting, implement, implementations
from capsbench.capsules import RouterFactory
from capsbench.models import CapsNet

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "capsnet": CapsNet,
    "capsnet_light": partial(CapsNet, filters=64, groups=8),
}
"""As in conf/arch. The authors' released code (ex4_1_light.py) times the light one."""
SHAPES = {"CIFAR-10": (3, 32, 32), "Fashion-MNIST": (1, 28, 28)}
BATCHES = 78
"""Whole batches of 128 in both test sets. The authors' mean is over these and a last one of 16."""
FM = "fm"
Way = tuple[str | None, str]
"""A router, if one is used, and an implementation."""


@torch.inference_mode()
def benchmark_table1(
    routers: Mapping[str, RouterFactory],
    networks: Mapping[str, Callable[..., nn.Module]] = NETWORKS,
    batches: int = BATCHES,
    batch_size: int = 128,
) -> list[Measurement]:
    """Measure complete models in evaluation mode, on the CPU and on the GPU where there is one.

    Each batch goes through every router, plain and fused where it has both, and through the network without routing.

    Returns:
        For each network and data set ("capsnet_light, CIFAR-10" is a subject), device, router and implementation
        milliseconds per batch, and ratios to FM's same implementation, or its plain one. FM's own are to the network
        without routing.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [
        measurement
        for network, make in networks.items()
        for data, shape in SHAPES.items()
        for device in devices
        for measurement in _of_images(
            f"{network}, {data}",
            partial(make, shape, 10),
            torch.rand(batch_size, *shape, device=device),
            routers,
            batches,
        )
    ]


def _of_images(
    subject: str,
    make: Callable[[RouterFactory], nn.Module],
    images: torch.Tensor,
    routers: Mapping[str, RouterFactory],
    batches: int,
) -> list[Measurement]:
    models: dict[Way, nn.Module] = {(None, NO_ROUTING): make(NoRouting)}
    for router, factory in routers.items():
        for implementation in ("plain", "fused") if len(implementations(make(factory))) > 1 else ("plain",):
            models[router, implementation] = make(factory)
            implement(models[router, implementation], implementation)
    times = interleaved(
        {way: partial(model.to(images.device).eval(), images) for way, model in models.items()}, batches
    )

    def record(way: Way, values: list[float], unit: str) -> Measurement:
        device = images.device.type.upper()
        return Measurement.of(values, subject, "forward", unit, router=way[0], implementation=way[1], device=device)

    found = [record(way, values, "ms") for way, values in times.items()]
    for way, values in times.items():
        if way[0] == FM:
            found.append(record(way, ratios(values, times[None, NO_ROUTING]), f"÷ {NO_ROUTING}"))
        elif FM in routers:
            fm = times.get((FM, way[1]), times[FM, "plain"])
            found.append(record(way, ratios(values, fm), "÷ FM"))
    return found
