"""The hours that each of the paper's tables and figures takes on this machine."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from capsbench.benchmarks.measure import Measurement, interleaved
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
    """Runs that differ only in their seed.

    Attributes:
        experiment, data, router: their names.
        runs: how many.
        make: returns the network and the data of one run; a few images may stand in for the data.
        epochs, steps: the length of one run; -1 where the other one limits it.
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


def benchmark_paper(works: Sequence[Work], repetitions: int, steps: int, device: torch.device) -> list[Measurement]:
    """Measure a training step and a batch of evaluation of each kind of run; compute the hours of all runs.

    Returns:
        For each experiment, data set and router ("table3, affnist" is a subject) milliseconds, and the hours of its
        runs one after the other, `size` being their number; for each experiment, and for all, the hours.
    """
    found = []
    hours: dict[str, float] = defaultdict(float)
    for work in works:
        module, data = work.make()
        data.setup()
        _enlarge(data, steps + 1, device)
        training = _milliseconds_per_step(module, data, repetitions, steps)
        images = next(iter(data.test_dataloader())).images
        module.to(device)
        evaluation = interleaved({"evaluation": partial(module.predict, images)}, repetitions)["evaluation"]
        record = partial(Measurement.of, subject=f"{work.experiment}, {work.data}", router=work.router)
        step = record(training, quantity="training step", unit="ms")
        batch = record(evaluation, quantity="evaluation of a batch", unit="ms")

        train_examples, test_examples = EXAMPLES[work.data]
        steps_per_epoch = -(-train_examples // data.batch_size)
        all_steps = work.steps if work.steps > 0 else work.epochs * steps_per_epoch
        evaluations = 1 + all_steps // steps_per_epoch // work.evaluate_every
        milliseconds = all_steps * step.median + evaluations * test_examples * batch.median / len(images)
        needed = work.runs * milliseconds / 3.6e6
        hours[work.experiment] += needed
        found += [step, batch, record([needed], quantity="all runs", unit="h", size=work.runs)]
    hours["all experiments"] = sum(hours.values())
    return found + [Measurement.of([value], name, "all runs", "h") for name, value in hours.items()]


def _milliseconds_per_step(
    module: ClassificationModule, data: ImageDataModule, repetitions: int, steps: int
) -> list[float]:
    times = StepTimes()
    found = []
    for repetition in range(repetitions + 1):
        quiet_trainer(steps + 1, times).fit(module, datamodule=data)
        if repetition:  # the first warms up
            found.append(1000 * times.seconds / steps)
    return found


def _enlarge(data: ImageDataModule, batches: int, device: torch.device) -> None:
    """Repeat the training images until an epoch has enough batches, and move them to the device."""
    images, labels = data.splits["train"]
    times = -(-batches * data.batch_size // len(labels))
    if times > 1:
        data.splits["train"] = LabelledImages(images.repeat(times, 1, 1, 1), labels.repeat(times))
    data.splits = {name: split.to(device) for name, split in data.splits.items()}
