"""How long each of the paper's tables and figures takes on this machine."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from capsbench.benchmarks.measure import Measured, interleaved, spread
from capsbench.benchmarks.train import StepTimes, quiet_trainer
from capsbench.data import ImageDataModule, LabelledImages
from capsbench.training import ClassificationModule

EXAMPLES = {
    "affnist": (60_000, 320_000),
    "cifar10": (50_000, 10_000),
    "cifar10_jpeg": (50_000, 10_000),
    "fashion_mnist": (60_000, 10_000),
    "mnist": (60_000, 10_000),
    "multi_mnist": (6_000_000, 1_000_000),
    "small_norb": (48_600, 48_600),
    "svhn": (73_257, 26_032),
}
"""Images of the training and the test split of each data set."""


class Work(NamedTuple):
    """Runs that differ in their seed only.

    Attributes:
        experiment, data, router: names of them.
        runs: how many.
        make: the network and the data of one; the data may be a few images that stand in.
        epochs, steps: of one run; -1 where the other says it.
        evaluate_every: epochs between evaluations during training.
    """

    experiment: str
    data: str
    router: str
    runs: int
    make: Callable[[], tuple[ClassificationModule, ImageDataModule]]
    epochs: int
    steps: int
    evaluate_every: int


def benchmark_paper(works: Sequence[Work], repetitions: int, steps: int, device: torch.device) -> Measured:
    """Milliseconds per training step and per batch of evaluation of each kind of run, and what follows from them.

    Returns:
        For each "experiment, data, router" the milliseconds and the hours of its runs, one after the other; for each
        experiment, and for all, the hours.
    """
    summary: Measured = {}
    hours: dict[str, float] = defaultdict(float)
    for work in works:
        module, data = work.make()
        data.setup()
        _enlarge(data, steps + 1, device)
        times = StepTimes()
        seconds = []
        for repetition in range(repetitions + 1):
            trainer = quiet_trainer(steps + 1, times)
            trainer.fit(module, datamodule=data)
            if repetition:
                seconds.append(times.seconds / steps)
        images = next(iter(data.test_dataloader())).images
        module.to(device)
        evaluation = interleaved({"evaluation": partial(module.predict, images)}, repetitions)["evaluation"]

        train_examples, test_examples = EXAMPLES[work.data]
        steps_per_epoch = -(-train_examples // data.batch_size)
        all_steps = work.steps if work.steps > 0 else work.epochs * steps_per_epoch
        evaluations = 1 + all_steps // steps_per_epoch // work.evaluate_every
        name = f"{work.experiment}, {work.data}, {work.router}"
        step, batch = spread([1000 * value for value in seconds]), spread(evaluation)
        per_example = batch["median"] / len(images)
        milliseconds = all_steps * step["median"] + evaluations * test_examples * per_example
        summary |= {f"{name}: ms per step": step, f"{name}: ms per batch of evaluation": batch}
        summary[f"{name}: hours for {work.runs} runs"] = spread([work.runs * milliseconds / 3.6e6])
        hours[work.experiment] += work.runs * milliseconds / 3.6e6
    summary |= {f"{experiment}: hours": spread([value]) for experiment, value in hours.items()}
    summary["all: hours"] = spread([sum(hours.values())])
    return summary


def _enlarge(data: ImageDataModule, batches: int, device: torch.device) -> None:
    """Repeat the training images until an epoch has enough batches; the images to the device."""
    images, labels = data.splits["train"]
    times = -(-batches * data.batch_size // len(labels))
    if times > 1:
        data.splits["train"] = LabelledImages(images.repeat(times, 1, 1, 1), labels.repeat(times))
    data.splits = {name: split.to(device) for name, split in data.splits.items()}
