"""Measures a trained network on a split, with its parts and companions."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MultilabelConfusionMatrix,
    MultilabelExactMatch,
)

from capsbench.data import Batch, ImageDataModule
from capsbench.data.batch import SplitName
from capsbench.training.losses import multi_hot
from capsbench.training.metrics import BY_ORDER, MEASURES, AveragePrecision, Metrics, mean_over_examples, measures
from capsbench.training.module import ClassificationModule

LARGEST_MATRIX = 1000
"""Classes whose confusion matrix is kept: a result of more is larger than what is read."""

COUNTS = ("true_negatives", "false_positives", "false_negatives", "true_positives")
"""In the order of torchmetrics."""
AVERAGE = "average_precision"


class Evaluated(NamedTuple):
    """What a network does on a split.

    Attributes:
        metrics: `SPLIT/accuracy`, `SPLIT/loss`, with a decoder `SPLIT/reconstruction`; `SPLIT/accuracy_NAME` of each
            part of the split, and of the test split's companions. Accuracies are shares of 1. Where images have any
            number of labels there is no accuracy, but `SPLIT/exact_match`, `SPLIT/f1` and `SPLIT/map`.
        confusion: how many examples of each class (row) were predicted to be of each (column); None where an image has
            several labels.
        by_label: where images have any number of labels, a row for each class: "true_positives", "false_negatives",
            "false_positives" and "true_negatives" count examples; "average_precision" is left out of a class that no
            example shows.
    """

    metrics: dict[str, float]
    confusion: list[list[int]] | None
    by_label: list[dict[str, float | int]] | None = None


def evaluate(
    trainer: lightning.Trainer, module: ClassificationModule, data: ImageDataModule, split: SplitName
) -> Evaluated:
    """Measure a network on a split of the data.

    Args:
        trainer: of the run, or any other.
        module: the network; it stays where the trainer leaves it.
        data: set up, with this split.
        split: the training split is measured as its first epoch has it, in the split's order.
    """
    loaders, companions = _loaders(data, split)
    measuring = _Measuring(module, split, loaders[0], data.parts(split), companions, data.labels_per_image)
    run = trainer.test if split == "test" else trainer.validate
    measured = run(measuring, dataloaders=loaders, verbose=False)
    metrics = {name: float(value) for found in measured for name, value in found.items()}
    for name in measuring.part_names:
        if math.isnan(metrics[name]):  # a limit on batches left nothing of this part
            del metrics[name]
    return Evaluated(metrics, measuring.confusion, measuring.by_label)


def check_share(trainer: lightning.Trainer, data: ImageDataModule) -> None:
    """Check before the training that a share of the batches leaves something to measure after it.

    Raises:
        ValueError: it leaves nothing.
    """
    split = data.watched_split
    share = trainer.limit_test_batches if split == "test" else trainer.limit_val_batches
    batches = min(len(loader.sampler) for loader in _loaders(data, split)[0])  # type: ignore[arg-type]
    if isinstance(share, float) and int(share * batches) == 0:
        raise ValueError(
            f"trainer.limit_{split}_batches={share} leaves nothing of {batches} batches to measure; set 1 for one batch"
        )


def _loaders(data: ImageDataModule, split: SplitName) -> tuple[list[DataLoader[Batch]], list[str]]:
    """What a split is measured on: itself and its companions, with the names of these."""
    companions = data.companions() if split == "test" else {}
    return [data.evaluation_loader(split), *companions.values()], list(companions)


class _Measuring(lightning.LightningModule):
    """A network while it is measured: on a split, then on its companions.

    Args:
        network: what is measured.
        split: its name.
        loader: of the split; its sampler tells which examples this process gets.
        parts: for each part of the split, which of its examples belong to it.
        companions: names of the sets that follow.
        labels_per_image: None: any number.
    """

    def __init__(
        self,
        network: ClassificationModule,
        split: SplitName,
        loader: DataLoader[Batch],
        parts: Mapping[str, Bool[Tensor, "example"]],
        companions: list[str],
        labels_per_image: int | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.split = split
        self.companions = companions
        self.part_names = [f"{split}/accuracy_{name}" for name in parts]
        self.confusion: list[list[int]] | None = None
        self.by_label: list[dict[str, float | int]] | None = None
        self._parts = [[mask[key.indices.to(mask.device)] for key in loader.sampler] for mask in parts.values()]
        classes = network.num_classes
        metrics: dict[str, Metric] = {
            **{f"{split}/{name}": made for name, made in measures(classes, labels_per_image).items()},
            f"{split}/loss": mean_over_examples(),
        }
        if network.decoder is not None:
            metrics[f"{split}/reconstruction"] = mean_over_examples()
        metrics |= {name: mean_over_examples() for name in self.part_names}
        metrics |= {f"{split}/accuracy_{name}": MultilabelExactMatch(classes) for name in companions}
        self.metrics = Metrics(metrics)
        self.matrix: Metric | None = None
        if labels_per_image == 1 and classes <= LARGEST_MATRIX:
            self.matrix = MulticlassConfusionMatrix(classes)
        elif labels_per_image is None:
            self.matrix = MultilabelConfusionMatrix(classes)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure a batch of the split (dataloader_idx 0) or of a companion."""
        outcome = self.network.outcome(batch)
        predicted, labels = (
            multi_hot(which, self.network.num_classes) for which in (outcome.predicted, outcome.labels)
        )
        if dataloader_idx > 0:
            self._update(f"{self.split}/accuracy_{self.companions[dataloader_idx - 1]}", predicted, labels)
            return
        for name in MEASURES:
            if f"{self.split}/{name}" in self.metrics:
                self._update(f"{self.split}/{name}", outcome.activations if name == BY_ORDER else predicted, labels)
        self._update(f"{self.split}/loss", outcome.loss.expand(len(labels)))
        if outcome.reconstruction is not None:
            self._update(f"{self.split}/reconstruction", outcome.reconstruction.expand(len(labels)))
        correct = (predicted == labels).all(dim=1).float()
        for name, masks in zip(self.part_names, self._parts, strict=True):
            self._update(name, correct[masks[batch_idx].to(correct.device)])
        if isinstance(self.matrix, MulticlassConfusionMatrix):
            self.matrix.update(outcome.predicted.flatten(), outcome.labels.flatten())
        elif self.matrix is not None:
            self.matrix.update(predicted, labels)

    validation_step = test_step

    def on_test_epoch_end(self) -> None:
        """Count over all devices; Lightning does so for what is logged only."""
        if isinstance(self.matrix, MulticlassConfusionMatrix):
            self.confusion = self.matrix.compute().tolist()
        elif self.matrix is not None:
            precision = self.metrics[f"{self.split}/{BY_ORDER}"]
            assert isinstance(precision, AveragePrecision)
            precision.compute()
            counts, averages = self.matrix.compute().flatten(1).tolist(), precision.by_class.tolist()
            self.by_label = [
                dict(zip(COUNTS, of_class, strict=True)) | ({} if math.isnan(average) else {AVERAGE: average})
                for of_class, average in zip(counts, averages, strict=True)
            ]

    on_validation_epoch_end = on_test_epoch_end

    def _update(self, name: str, *arguments: Any) -> None:
        metric = self.metrics[name]
        metric.update(*arguments)  # type: ignore[operator]
        self.log(name, metric, on_step=False, on_epoch=True, add_dataloader_idx=False)  # type: ignore[arg-type]
