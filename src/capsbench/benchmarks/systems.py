"""What each system costs: parameters, multiply-adds, memory, and the time of a training step and of evaluation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from capsbench.benchmarks.measure import Measurement, interleaved, peak_bytes, ratios
from capsbench.benchmarks.routers import NO_ROUTING, NoRouting, implement, operations
from capsbench.capsules import RouterFactory
from capsbench.data import Batch
from capsbench.training import ClassificationModule
from capsbench.training.optimizers import parameter_groups

REFERENCE = "resnet"
"""The network that times are relative to, where it is measured."""
COUNTED = 2
"""Images that operations are counted on; they grow with the images."""


class System(NamedTuple):
    """A network with its router, for the images of one data set.

    Attributes:
        arch, router, data: their names.
        image_shape: (channels, height, width).
        make: makes the network and its loss, with another router where one is given.
    """

    arch: str
    router: str
    data: str
    image_shape: tuple[int, int, int]
    make: Callable[[RouterFactory | None], ClassificationModule]


def benchmark_systems(
    systems: Sequence[System], repetitions: int, batch_size: int, device: torch.device
) -> list[Measurement]:
    """Measure systems as they train, on noise.

    Returns:
        For each system ("hitnet, fashion_mnist" is a subject) its trainable parameters; per image millions of
        multiply-adds without routing, which are those of convolutions and transforms, votes formed, and the operations
        on elements of the plain path; the peak memory of a training step beyond weights, gradients and the optimizer's
        state; and milliseconds of a training step and of a batch of evaluation. Systems take turns, so that ratios to
        the network `resnet` are of one time.
    """
    found: list[Measurement] = []
    ways: dict[tuple[System, str], Callable[[], object]] = {}
    for system in systems:
        module = system.make(None).to(device)
        record = _recorder(system)
        found += [
            record([float(module.num_parameters)], quantity="parameters", unit="parameters"),
            *_counts(system, record),
        ]
        images = torch.randn(batch_size, *system.image_shape, device=device)
        labels = torch.arange(batch_size, device=device) % module.num_classes
        optimizer = module.optimizer_factory(parameter_groups(module, module.loss, module.decay))
        step = partial(_step, module, optimizer, Batch(images, labels, images.unsqueeze(1)))
        found.append(record([peak_bytes(step, device) / 1e6], quantity="peak memory", unit="MB"))
        ways[system, "training step"] = step
        ways[system, "evaluation"] = partial(module.predict, images)
    times = interleaved(ways, repetitions)
    for (system, quantity), values in times.items():
        found.append(_recorder(system)(values, quantity=quantity, unit="ms"))
        other = next((one for one in systems if (one.arch, one.data) == (REFERENCE, system.data)), None)
        if other is not None:
            relative = ratios(values, times[other, quantity])
            found.append(_recorder(system)(relative, quantity=quantity, unit=f"÷ {REFERENCE}"))
    return found


def _recorder(system: System) -> Callable[..., Measurement]:
    return partial(Measurement.of, subject=f"{system.arch}, {system.data}", router=system.router)


def _counts(system: System, record: Callable[..., Measurement]) -> list[Measurement]:
    """Count operations and votes per image, on the plain path: what is computed in blocks is computed twice."""
    images = torch.randn(COUNTED, *system.image_shape)
    whole = _plain(system.make(None))
    without = whole
    votes = 0

    def add(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal votes
        votes += inputs[0].shape.numel()

    if system.router != "none":
        without = _plain(system.make(NoRouting))
        for module in without.modules():
            if isinstance(module, NoRouting):
                module.register_forward_pre_hook(add)
    products, _ = operations(partial(without, images))
    _, on_elements = operations(partial(whole, images))
    per_image = partial(record, unit="M")
    return [
        per_image([products / COUNTED / 1e6], quantity="multiply-adds", implementation=NO_ROUTING),
        per_image([on_elements / COUNTED / 1e6], quantity="operations on elements"),
        per_image([votes / COUNTED / 1e6], quantity="votes"),
    ]


def _plain(module: ClassificationModule) -> nn.Module:
    implement(module, "plain")
    return module.model.eval()


def _step(module: ClassificationModule, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    module.train()
    optimizer.zero_grad()
    torch.autograd.backward(module.outcome(batch, progress=0.5, training=True).loss)
    optimizer.step()
