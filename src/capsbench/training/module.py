"""Trains any capsule network to classify images and, with a decoder, to reconstruct them."""

import inspect
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning
import torch
from jaxtyping import Bool, Float, Int64
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from capsbench.data import Batch
from capsbench.data.batch import SplitName, as_batch
from capsbench.routing import Capsules, NonFiniteError, check_choice
from capsbench.training.losses import Labels, Weights, multi_hot, reconstruction_error, unordered_reconstruction_error
from capsbench.training.metrics import BY_ORDER, MEASURES, Metrics, mean_over_examples, measures
from capsbench.training.nan_guard import blame
from capsbench.training.optimizers import OptimizerFactory, SchedulerFactory, lasting, parameter_groups
from capsbench.training.recipe import Recipe, rebuilt

THRESHOLD = 0.5
"""Of the activation of a class, above which an image that may show any number of classes is predicted to show it."""


class Outcome(NamedTuple):
    """What a network makes of a batch. Losses are means over its examples, in at least 32 bits.

    Attributes:
        loss: with the weighted reconstruction error, if there is a decoder.
        reconstruction: the squared error, summed over the pixels of an example; None without a decoder.
        predicted: the classes of the most active capsules, as many as an image has labels; or which are above
            `THRESHOLD`, where it has any number.
        labels: of the batch.
        activations: of the class capsules.
    """

    loss: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""] | None
    predicted: Int64[Tensor, "batch several"] | Bool[Tensor, "batch class"]
    labels: Int64[Tensor, "batch several"] | Bool[Tensor, "batch class"]
    activations: Float[Tensor, "batch class"]


class ClassificationModule(lightning.LightningModule):
    """Train a capsule network to predict the labels of images.

    An image with k labels is predicted to show the classes of its k most active capsules. It counts as correct if all k
    are correct. Where images have any number of labels, those are predicted whose activation is above `THRESHOLD`. A
    decoder reconstructs an image for each class (§4.3 of the paper): in training from the poses of the
    labelled classes, in evaluation from the poses of the predicted classes.

    Logs `loss`, `accuracy` and, with a decoder, `reconstruction` (squared error, summed over the pixels of an example)
    once per epoch, as `train/loss` and so on, for the splits train, val and test. All are means over examples. Where
    images have any number of labels it logs, instead of `accuracy`, `exact_match`, `f1` (mean over classes) and, but
    in training, `map` (mean average precision). A learned scale of the loss's activations is `train/loss_scale`.

    Args:
        model: maps images (batch, channel, height, width) to class capsules.
        loss: maps activations (batch, class), labels and progress to a scalar; if it takes `step`, that too.
        optimizer: makes an optimizer of groups of parameters.
        scheduler: makes a learning-rate scheduler of an optimizer; None keeps the rate constant. A length of None, see
            `lasting`, is that of the run.
        scheduler_interval: the scheduler steps once per "epoch" or once per "step".
        decay: which weights the optimizer's weight decay is for, see `parameter_groups`.
        num_classes: number of classes of the data.
        decoder: maps poses (batch, class, dim) and class numbers (batch, k) to images (batch, k, channel, height,
            width); None reconstructs nothing.
        reconstruction_weight: weight of the reconstruction error in the loss.
        labels_per_image: how many classes an image shows; None: any number.

    Attributes:
        frozen: parts that stay in evaluation mode.
        lr: the learning rate, where another than the optimizer's own is set, as Lightning's learning-rate finder does.
        recipe: what the module was made with, as plain values; checkpoints keep it for `load_from_checkpoint`.

    Raises:
        ValueError: reconstruction_weight is negative, decay is unknown, or there is a decoder though images show any
            number of classes.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerFactory,
        *,
        num_classes: int,
        scheduler: SchedulerFactory | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        decay: str = "all",
        decoder: nn.Module | None = None,
        reconstruction_weight: float = 0.0005,
        labels_per_image: int | None = 1,
    ) -> None:
        super().__init__()
        if reconstruction_weight < 0:
            raise ValueError(f"decoder.loss_weight must be at least 0, got {reconstruction_weight}")
        check_choice("optim.decay", decay, "all", "kernels")
        if decoder is not None and labels_per_image is None:
            raise ValueError(
                "a decoder draws an image for each of its labels, and these images have any number; use decoder=none"
            )
        self.model = model
        self.decoder = decoder
        self.num_classes = num_classes
        self.reconstruction_weight = reconstruction_weight
        self.loss = loss
        self.loss_takes = frozenset(inspect.signature(loss.forward).parameters)
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.scheduler_interval = scheduler_interval
        self.decay = decay
        self.frozen: list[nn.Module] = []
        self.recipe: Recipe | None = None
        self.lr: float | None = None
        metrics: dict[str, Metric] = {}
        for split in ("train", "val", "test"):
            measured = measures(num_classes, labels_per_image, in_training=split == "train")
            metrics |= {f"{split}_{name}": metric for name, metric in measured.items()}
            for name in ("loss",) if decoder is None else ("loss", "reconstruction"):
                metrics[f"{split}_{name}"] = mean_over_examples()
        self.metrics = Metrics(metrics)

    def forward(self, images: Tensor) -> Capsules:
        """Map images (batch, channel, height, width) to class capsules.

        Raises:
            NonFiniteError: a number is NaN or infinite; the message names the first such layer.
        """
        try:
            capsules: Capsules = self.model(images)
        except NonFiniteError as error:
            raise NonFiniteError(f"{blame(self.model, images)} ({error})") from error
        return capsules

    def blame(self, batch: Batch) -> str:
        """Describe the first place where a batch gives NaN or infinity."""
        batch = as_batch(batch)
        if not torch.isfinite(batch.images).all():
            return "the images themselves are not finite"
        found = blame(self.model, batch.images)
        if found is None and self.decoder is not None:
            labels = batch.labels.reshape(len(batch.images), -1)
            found = blame(self.decoder, self.model(batch.images).poses, labels)
        return found or "every layer's output is finite, so the loss itself overflowed"

    def train(self, mode: bool = True) -> "ClassificationModule":
        """Set the mode of all parts but those that are frozen."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    @torch.no_grad()
    def predict(self, images: Tensor) -> Capsules:
        """Map images on any device to class capsules, in evaluation mode and without gradients."""
        weight = next(self.parameters())
        capsules: Capsules = self.eval()(images.to(weight.device, weight.dtype))
        return capsules

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters of the network, including the decoder's."""
        networks = nn.ModuleList(network for network in (self.model, self.decoder) if network is not None)
        return sum(p.numel() for p in networks.parameters() if p.requires_grad)

    def predict_step(self, batch: Any, batch_idx: int) -> Capsules:
        """Map a batch, or images alone, to class capsules."""
        capsules: Capsules = self(batch if isinstance(batch, Tensor) else as_batch(batch).images)
        return capsules

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a training batch, weighted so that a step follows the mean over its examples."""
        batch = as_batch(batch)
        loss = self._step("train", batch, self._weights(batch.labels)).loss
        weight = self._weight(len(batch.labels), batch_idx)
        return loss if weight == 1 else weight * loss

    def _weight(self, examples: int, batch_idx: int) -> float:
        """What makes Lightning's mean over `accumulate_grad_batches` and over devices a mean over examples.

        Lightning divides by `accumulate_grad_batches` also where an epoch ends with fewer batches (its issue 19987). It
        counts a smaller batch, or a device's smaller share of one, like a whole one.
        """
        trainer = self.trainer
        batches, sizes = trainer.accumulate_grad_batches, getattr(trainer.train_dataloader.sampler, "sizes", None)  # type: ignore[union-attr]
        if sizes is None:  # a loader of somebody else, to which Lightning's own mean applies
            return 1.0
        start = batch_idx - batch_idx % batches
        in_step = sum(sizes[start : min(start + batches, int(trainer.num_training_batches))])
        return batches * trainer.world_size * examples / in_step

    def _weights(self, labels: Labels) -> Weights:
        """Those of examples, where the data weighs classes.

        Raises:
            ValueError: the loss takes none.
        """
        of_classes = getattr(getattr(self.trainer, "datamodule", None), "loss_weights", None)
        if of_classes is None:
            return None
        if "weights" not in self.loss_takes:
            raise ValueError(
                f"data.class_weights has no effect: {type(self.loss).__name__} takes no weights; leave it out"
            )
        found: Tensor = of_classes.to(labels.device)[labels]
        return found

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Log what was measured, and a learned scale of activations, at the end of the epoch or of training.

        To log after each batch took about a millisecond of a CPU, a quarter of a small network's step on a GPU.
        """
        trainer = self.trainer
        if not (trainer.is_last_batch or trainer.should_stop or self.global_step == trainer.max_steps):
            return
        for name in self.metrics:
            if name.startswith("train_"):
                self._log(name)
        scale = getattr(self.loss, "scale", None)
        if isinstance(scale, Tensor):
            self.log("train/loss_scale", scale.detach(), on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_start(self) -> None:
        """Reset the training metrics: a checkpoint from the end of an epoch still holds that epoch's."""
        for name, metric in self.metrics.items():
            if isinstance(metric, Metric) and name.startswith("train_"):
                metric.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Measure a batch of the split that is watched during training, and return the predicted classes."""
        return self._step(self.watched_split, batch).predicted

    @property
    def watched_split(self) -> SplitName:
        """The split that is measured during training: validation, or test where there is none."""
        split: SplitName = getattr(self.trainer.datamodule, "watched_split", "val")  # type: ignore[attr-defined]
        return split

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure a batch of the test split."""
        self._step("test", batch)

    def outcome(
        self,
        batch: Batch,
        *,
        progress: float = 1.0,
        step: int | float = math.inf,
        training: bool = False,
        weights: Weights = None,
    ) -> Outcome:
        """Run the network and its decoder on a batch.

        Args:
            batch: of any split.
            progress: fraction of the training done, which a loss may follow.
            step: steps of the training done, likewise.
            training: whether to reconstruct from the poses of the labelled classes; else those of the predicted.
            weights: of the examples in the loss on activations; None: all count alike.
        """
        capsules = self(batch.images)
        activations = _at_least_32_bits(capsules.activations)
        labels = batch.labels.reshape(len(activations), -1)
        is_any_number = labels.dtype == torch.bool
        predicted = activations.detach() > THRESHOLD if is_any_number else most_active(activations, labels.shape[1])
        told: dict[str, Any] = {"step": step} if "step" in self.loss_takes else {}
        if weights is not None:
            told["weights"] = weights.to(activations.dtype)
        loss: Tensor = self.loss(activations, batch.labels, progress, **told)
        if self.decoder is None:
            return Outcome(loss, None, predicted, labels, activations)
        drawn = _at_least_32_bits(self.decoder(capsules.poses, labels if training else predicted))
        targets = batch.targets.to(drawn.dtype)
        error = (reconstruction_error if training else unordered_reconstruction_error)(drawn, targets)
        return Outcome(loss + self.reconstruction_weight * error, error, predicted, labels, activations)

    def _step(self, split: SplitName, batch: Any, weights: Weights = None) -> Outcome:
        batch, training = as_batch(batch), split == "train"
        outcome = self.outcome(batch, progress=self.progress, step=self.global_step, training=training, weights=weights)
        examples, classes = len(outcome.labels), self.num_classes
        predicted, labels = multi_hot(outcome.predicted, classes), multi_hot(outcome.labels, classes)
        for name in MEASURES:
            if f"{split}_{name}" in self.metrics:
                self._measure(split, name, outcome.activations.detach() if name == BY_ORDER else predicted, labels)
        self._measure(split, "loss", outcome.loss.detach().expand(examples))
        if outcome.reconstruction is not None:
            self._measure(split, "reconstruction", outcome.reconstruction.detach().expand(examples))
        return outcome

    def _measure(self, split: SplitName, name: str, *arguments: Tensor) -> None:
        self.metrics[f"{split}_{name}"].update(*arguments)  # type: ignore[operator]
        if split != "train":
            self._log(f"{split}_{name}")

    def _log(self, name: str) -> None:
        """Log a metric, "train_loss" as "train/loss"."""
        self.log(name.replace("_", "/", 1), self.metrics[name], on_step=False, on_epoch=True)  # type: ignore[arg-type]

    @property
    def progress(self) -> float:
        """Fraction of the training steps done so far, in [0, 1]."""
        return min(1.0, self.global_step / max(1, self.trainer.estimated_stepping_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the metrics of the unfinished epoch, and what the module was made with."""
        checkpoint["metrics"] = self.metrics.states()
        if self.recipe is not None:
            checkpoint["recipe"] = self.recipe

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the metrics of the unfinished epoch."""
        self.metrics.restore(checkpoint["metrics"])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | os.PathLike[str], *, own: Iterable[Any] = (), **arguments: Any
    ) -> "ClassificationModule":
        """Make a module as it was when a checkpoint was saved, on the CPU. Nothing that the file holds is executed.

        Args:
            checkpoint_path: of a run, or of `Trainer.save_checkpoint`.
            own: classes of yours that it is made of; others than these, the package's and PyTorch's are not made.
            **arguments: of the class, for a module that was not built from a configuration; then all are needed.

        Raises:
            CheckpointError: the file is damaged.
            ValueError: it does not say what the module was made with, or names another class.
        """
        return rebuilt(cls, Path(checkpoint_path), own, arguments)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and, if there is one, its learning-rate schedule."""
        optimizer = self.optimizer_factory(parameter_groups(self, self.loss, self.decay))
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        if self.scheduler_factory is None:
            return optimizer
        scheduler = lasting(self.scheduler_factory, self._schedule_length)(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def _schedule_length(self) -> int:
        """How often the schedule is stepped: the steps of the run, or the epochs that it begins.

        Raises:
            ValueError: neither epochs nor steps end the run.
        """
        trainer = self.trainer
        trainer.fit_loop.setup_data()  # else the number of batches is not known yet
        steps = trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ValueError("the schedule has no end: set trainer.max_epochs or trainer.max_steps")
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        return int(steps) if self.scheduler_interval == "step" else math.ceil(steps / per_epoch)


def most_active(activations: Float[Tensor, "batch class"], k: int) -> Int64[Tensor, "batch k"]:
    """Return the classes of the k most active capsules, most active first."""
    return activations.detach().topk(k, dim=1).indices


def _at_least_32_bits(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sums over pixels, classes and examples need more than the 8 or 11 bits of a half-precision number."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
