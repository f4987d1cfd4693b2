"""The paper's table 1: milliseconds of CapsNet's forward pass with each router."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from capsbench.benchmarks.measure import Measurement, interleaved, ratios
from capsbench.capsules import Capsules, RouterFactory
from capsbench.models import CapsNet

SHAPES = {"CIFAR-10": (3, 32, 32), "Fashion-MNIST": (1, 28, 28)}
NO_ROUTING = "no routing"
FM = "fm"


class VotesOnly(nn.Module):
    """CapsNet up to its votes, which every router that takes them all has to wait for."""

    def __init__(self, network: CapsNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images into votes (batch, child, parent, dim)."""
        children: Capsules = self.network.primary(self.network.conv(images).relu())
        votes: torch.Tensor = self.network.class_capsules.transform(children.poses)
        return votes


@torch.inference_mode()
def benchmark_table1(
    routers: Mapping[str, RouterFactory], repetitions: int = 5, batch_size: int = 128
) -> list[Measurement]:
    """Measure complete models in evaluation mode, on the CPU and on the GPU where there is one.

    Returns:
        For each data set, device and router, and for the network without routing, milliseconds per batch; ratios to
        FM, and FM's to the network without routing.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [
        measurement
        for data, shape in SHAPES.items()
        for device in devices
        for measurement in _of_images(data, torch.rand(batch_size, *shape, device=device), routers, repetitions)
    ]


def _of_images(
    data: str, images: torch.Tensor, routers: Mapping[str, RouterFactory], repetitions: int
) -> list[Measurement]:
    shape = (images.shape[1], images.shape[2], images.shape[3])
    models: dict[str, nn.Module] = {name: CapsNet(shape, 10, router) for name, router in routers.items()}
    models[NO_ROUTING] = VotesOnly(CapsNet(shape, 10, next(iter(routers.values()))))
    ways = {name: partial(model.to(images.device).eval(), images) for name, model in models.items()}
    times = interleaved(ways, repetitions)

    def record(name: str, values: list[float], unit: str) -> Measurement:
        router, way = (None, name) if name == NO_ROUTING else (name, None)
        device = images.device.type.upper()
        return Measurement.of(values, data, "forward", unit, router=router, implementation=way, device=device)

    found = [record(name, values, "ms") for name, values in times.items()]
    if FM in times:
        found += [record(name, ratios(values, times[FM]), "÷ FM") for name, values in times.items() if name != FM]
        found.append(record(FM, ratios(times[FM], times[NO_ROUTING]), f"÷ {NO_ROUTING}"))
    return found
