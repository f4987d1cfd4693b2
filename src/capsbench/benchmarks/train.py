"""Images per second of training and inference, for each network and router, and the cost of Lightning's loop."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from capsbench.benchmarks.data import RandomPictures
from capsbench.benchmarks.einsum import EINSUM, with_einsum
from capsbench.benchmarks.measure import Measurement, ratios, wait
from capsbench.benchmarks.routers import NO_ROUTING, NoRouting, implement
from capsbench.benchmarks.table1 import NETWORKS as CAPSNETS
from capsbench.capsules import RouterFactory
from capsbench.models import ResNetCapsNet
from capsbench.training import ClassificationModule, MarginLoss, compile_networks, use_channels_last

NETWORKS: dict[str, tuple[tuple[int, int, int], Any]] = {
    "resnet_capsnet": ((3, 32, 32), ResNetCapsNet),
    "resnet_capsnet_small": ((1, 40, 40), partial(ResNetCapsNet, blocks=(1, 1, 1), hidden_capsules=())),
    **{name: ((1, 28, 28), make) for name, make in CAPSNETS.items()},
}
LIGHTNING = "ours in Lightning"
TRAINING, INFERENCE = "training", "inference"
REFERENCES = {"ours": ("plain", EINSUM), "ours compiled": ("plain",), LIGHTNING: ("plain", "ours")}
"""What each implementation is compared with."""
Way = tuple[str | None, str, str]
"""A router, if one is used, an implementation, and whether it trains or infers."""


class Pictures(RandomPictures):
    """Noise of any shape."""

    def __init__(self, image_shape: tuple[int, int, int], batch: int, steps: int) -> None:
        super().__init__(batch_size=batch)
        self.image_shape = image_shape
        self.num_images = batch * steps


class StepTimes(lightning.Callback):
    """Measures the seconds from the end of the first step to the end of the last."""

    seconds = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            wait()
            self.seconds = -time.perf_counter()
        elif trainer.global_step == trainer.max_steps:
            wait()
            self.seconds += time.perf_counter()


def benchmark_train(
    routers: Mapping[str, RouterFactory],
    repetitions: int,
    steps: int,
    compile_mode: str | None,
    device: torch.device,
    networks: Mapping[str, Any] = NETWORKS,
    batches: Sequence[int] = (128,),
) -> list[Measurement]:
    """Measure training and inference on noise, with the data already on the device.

    Args:
        routers: by name.
        repetitions: of each way, in turn.
        steps: that count, of each repetition; one before them does not.
        compile_mode: also measure networks compiled by torch.compile in this mode.
        device: to train on.
        networks: image shape and class, by name.
        batches: examples in a batch.

    Returns:
        For each network, batch and router images per second of these implementations: "plain" (votes formed, images
        channel by channel), for CapsNet the same with its layer as a "plain einsum", "ours" in a bare loop, ours
        compiled, and ours in Lightning's loop with its metrics; and ratios. Inference is of plain, einsum and ours. The
        ways of all routers take turns, and with them the network without routing, the reference.
    """
    found = []
    for network, (shape, make) in networks.items():
        for batch in batches:
            data = Pictures(shape, batch, steps + 1)
            data.setup()
            data.splits = {name: split.to(device) for name, split in data.splits.items()}
            reference = make(shape, 10, NoRouting).to(device)
            ways: dict[Way, Callable[[], float]] = {(None, NO_ROUTING, TRAINING): partial(_bare, reference, data)}
            for router, factory in routers.items():
                of_router = _ways(partial(make, shape, 10, factory), data, steps, compile_mode, device)
                ways |= {(router, *way): run for way, run in of_router.items()}
            seconds: dict[Way, list[float]] = {way: [] for way in ways}
            for repetition in range(repetitions + 1):
                for way, run in ways.items():
                    taken = run()
                    if repetition:  # the first warms up, and compiles
                        seconds[way].append(taken)
            found += [replace(one, size=batch) for one in _summary(network, seconds, steps, batch)]
    return found


def _ways(
    make: Callable[[], nn.Module], data: Pictures, steps: int, compile_mode: str | None, device: torch.device
) -> dict[tuple[str, str], Callable[[], float]]:
    """Each way of training and inference, as a function that returns its seconds."""
    plain, ours, einsum = make().to(device), make().to(device), with_einsum(make())
    implement(plain, "plain")
    use_channels_last(ours)
    usual = {"plain": plain} | ({} if einsum is None else {EINSUM: einsum.to(device)})
    ways: dict[tuple[str, str], Callable[[], float]] = {
        (way, TRAINING): partial(_bare, model, data, fused=False) for way, model in usual.items()
    }
    ways["ours", TRAINING] = partial(_bare, ours, data)
    if compile_mode is not None:
        compiled = make().to(device)
        use_channels_last(compiled)
        compile_networks(compile_mode, compiled)
        ways["ours compiled", TRAINING] = partial(_bare, compiled, data)
    ways[LIGHTNING, TRAINING] = partial(_in_lightning, ours, data, steps)
    return ways | {(way, INFERENCE): partial(_infer, model, data) for way, model in {**usual, "ours": ours}.items()}


def _summary(network: str, seconds: Mapping[Way, list[float]], steps: int, batch: int) -> list[Measurement]:
    found = []
    for (router, way, what), values in seconds.items():
        series = {(what, "images/s"): [steps * batch / value for value in values]}
        if way in ("ours", NO_ROUTING) and what == TRAINING:
            series["training step", "ms"] = [1000 * value / steps for value in values]
        if way == "ours" and what == TRAINING:
            series["training step", f"÷ {NO_ROUTING}"] = ratios(values, seconds[None, NO_ROUTING, TRAINING])
        for reference in REFERENCES.get(way, ()):
            if (theirs := seconds.get((router, reference, what))) is not None:
                series[what, f"times as fast as {reference}"] = ratios(theirs, values)
        found += [
            Measurement.of(numbers, network, quantity, unit, router=router, implementation=way)
            for (quantity, unit), numbers in series.items()
        ]
    return found


def _bare(model: nn.Module, data: Pictures, fused: bool = True) -> float:
    """Train in a bare loop; return the seconds of all steps but the first."""
    loss = MarginLoss()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    start = 0.0
    model.train()
    for step, batch in enumerate(data.train_dataloader()):
        optimizer.zero_grad()
        loss(model(batch.images).activations, batch.labels, 0.0).backward()
        optimizer.step()
        if step == 0:
            wait()
            start = time.perf_counter()
    wait()
    return time.perf_counter() - start


@torch.inference_mode()
def _infer(model: nn.Module, data: Pictures) -> float:
    """Predict in evaluation mode; return the seconds of all steps but the first."""
    start = 0.0
    model.eval()
    for step, batch in enumerate(data.train_dataloader()):
        model(batch.images)
        if step == 0:
            wait()
            start = time.perf_counter()
    wait()
    return time.perf_counter() - start


def _in_lightning(model: nn.Module, data: Pictures, steps: int) -> float:
    """Train in Lightning's loop, with the metrics that a run keeps; return the same seconds."""
    module = ClassificationModule(model, MarginLoss(), partial(torch.optim.Adam, fused=True), num_classes=10)
    times = StepTimes()
    device = next(model.parameters()).device
    quiet_trainer(steps + 1, times).fit(module, train_dataloaders=data.train_dataloader())
    model.to(device)  # Lightning leaves it on the CPU
    return times.seconds


def quiet_trainer(steps: int, times: StepTimes) -> lightning.Trainer:
    """Make a trainer that trains for some steps and neither evaluates nor saves."""
    return lightning.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        plugins=[LightningEnvironment()],  # also in a Slurm job of several tasks
        max_steps=steps,
        callbacks=[times],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
