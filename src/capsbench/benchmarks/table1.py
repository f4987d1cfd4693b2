"""The paper's table 1: milliseconds that CapsNet takes for a batch, router by router."""

from functools import partial

import torch
from torch import nn

from capsbench.benchmarks.measure import Measured, interleaved, ratio, spread
from capsbench.capsules import Capsules, RouterFactory
from capsbench.models import CapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement

SHAPES = {"CIFAR-10": (3, 32, 32), "Fashion-MNIST": (1, 28, 28)}
ROUTERS: dict[str, RouterFactory] = {
    "dynamic(1)": partial(DynamicRouting, iterations=1),
    "dynamic(3)": partial(DynamicRouting, iterations=3),
    "FM": FMAgreement,
    "EM(2)": partial(EMRouting, iterations=2),
}
NO_ROUTING = "no routing"


class VotesOnly(nn.Module):
    """CapsNet up to its votes: what every router has to wait for that is given all of them."""

    def __init__(self, network: CapsNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images to votes (batch, child, parent, dim)."""
        children: Capsules = self.network.primary(self.network.conv(images).relu())
        votes: torch.Tensor = self.network.class_capsules.transform(children.poses)
        return votes


@torch.inference_mode()
def benchmark_table1(repetitions: int = 5, batch_size: int = 128) -> Measured:
    """Milliseconds per batch of whole models in evaluation mode, on the CPU and on the GPU where there is one.

    Returns:
        For each "shape, device, router", and for the network without routing, the median, least and most, measured in
        turn; for each but FM also its ratio to FM, and FM's to the network without routing, repetition by repetition.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    summary: Measured = {}
    for data, shape in SHAPES.items():
        for device in devices:
            images = torch.rand(batch_size, *shape, device=device)
            models: dict[str, nn.Module] = {name: CapsNet(shape, 10, router) for name, router in ROUTERS.items()}
            models[NO_ROUTING] = VotesOnly(CapsNet(shape, 10, FMAgreement))
            ways = {name: partial(model.to(device).eval(), images) for name, model in models.items()}
            times = interleaved(ways, repetitions)
            where = f"{data}, {device.upper()}"
            summary |= {f"{where}, {name}: ms": spread(values) for name, values in times.items()}
            summary |= {f"{where}, {name} ÷ FM": ratio(times, name, "FM") for name in models if name != "FM"}
            summary[f"{where}, FM ÷ {NO_ROUTING}"] = ratio(times, "FM", NO_ROUTING)
    return summary
