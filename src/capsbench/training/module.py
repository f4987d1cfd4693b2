"""Classification by capsule activations and reconstruction from poses, for any architecture and router."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning
import torch
from jaxtyping import Float, Int64
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MultilabelExactMatch

from capsbench.data import Batch
from capsbench.data.batch import SplitName
from capsbench.routing import Capsules, NonFiniteError
from capsbench.training.losses import multi_hot, reconstruction_error, unordered_reconstruction_error
from capsbench.training.nan_guard import blame

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class ClassificationModule(lightning.LightningModule):
    """Trains a capsule network on labels; the predicted classes are the most active capsules, as many as labels.

    An example counts as right if all its classes are. With a decoder the image of each label is also drawn from a pose:
    in training from that of the label's capsule, in evaluation from those of the predicted ones (the paper's §4.3).

    Logs `train/loss`, `train/accuracy`, with a decoder `train/reconstruction` (squared error per example, summed over
    pixels), and the same of `val` or `test`, once per epoch, kept on the device until then.

    Args:
        model: images (batch, channel, height, width) to class capsules.
        loss: (activations, labels, progress) to a scalar.
        optimizer: parameters to an optimizer.
        scheduler: optimizer to a learning-rate scheduler, or None for a constant rate.
        scheduler_interval: the scheduler steps once per "epoch" or per "step".
        num_classes: of the data.
        decoder: (poses, chosen classes (batch, several)) to an image for each chosen class; None draws nothing.
        reconstruction_weight: what the decoder's squared error counts in the loss.

    Raises:
        ValueError: reconstruction_weight is negative.
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
        decoder: nn.Module | None = None,
        reconstruction_weight: float = 0.0005,
    ) -> None:
        super().__init__()
        if reconstruction_weight < 0:
            raise ValueError(f"decoder.loss_weight must be at least 0, got {reconstruction_weight}")
        self.model = model
        self.decoder = decoder
        self.reconstruction_weight = reconstruction_weight
        self.loss = loss
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.scheduler_interval = scheduler_interval
        metrics: dict[str, Metric] = {}
        for split in ("train", "val", "test"):
            metrics[f"{split}_accuracy"] = MultilabelExactMatch(num_classes, validate_args=False)
            for name in ("loss",) if decoder is None else ("loss", "reconstruction"):
                metrics[f"{split}_{name}"] = MeanMetric(nan_strategy="disable")
        for metric in metrics.values():
            metric.persistent(True)  # so that an epoch's metrics survive an interruption in its middle
        self.metrics = nn.ModuleDict(metrics)

    def forward(self, images: Tensor) -> Capsules:
        """Images to class capsules.

        Raises:
            NonFiniteError: naming the layer, where the numbers stop being finite.
        """
        try:
            capsules: Capsules = self.model(images)
        except NonFiniteError as error:
            raise NonFiniteError(f"{blame(self.model, images)} ({error})") from error
        return capsules

    def blame(self, batch: Batch) -> str:
        """Say, in words, where the numbers of a batch stop being finite."""
        if not torch.isfinite(batch.images).all():
            return "the images themselves are not finite"
        found = blame(self.model, batch.images)
        if found is None and self.decoder is not None:
            labels = batch.labels.reshape(len(batch.images), -1)
            found = blame(self.decoder, self.model(batch.images).poses, labels)
        return found or "every layer's output is finite, so the loss itself overflowed"

    @torch.no_grad()
    def predict(self, images: Tensor) -> Capsules:
        """Images to class capsules in evaluation mode, wherever the images are."""
        weight = next(self.parameters())
        capsules: Capsules = self.eval()(images.to(weight.device, weight.dtype))
        return capsules

    @property
    def num_parameters(self) -> int:
        """Trainable ones, the decoder's included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a training batch."""
        return self._step("train", batch)

    def on_train_epoch_start(self) -> None:
        """Let an epoch's metrics begin anew, though a checkpoint from the end of the one before holds that one's."""
        for name, metric in self.metrics.items():
            if isinstance(metric, Metric) and name.startswith("train_"):
                metric.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy on a batch of what is watched during training: the validation or the test split."""
        self._step(self.trainer.datamodule.watched_split, batch)  # type: ignore[attr-defined]

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy on a batch of the test split."""
        self._step("test", batch)

    def _step(self, split: SplitName, batch: Batch) -> Tensor:
        capsules = self(batch.images)
        activations = capsules.activations
        loss: Tensor = self.loss(activations, batch.labels, self.progress)
        labels = batch.labels.reshape(len(activations), -1)
        predicted = most_active(activations, labels.shape[1])
        if self.decoder is not None:
            if split == "train":
                error = reconstruction_error(self.decoder(capsules.poses, labels), batch.targets)
            else:
                error = unordered_reconstruction_error(self.decoder(capsules.poses, predicted), batch.targets)
            self._measure(split, "reconstruction", error.detach(), len(labels))
            loss = loss + self.reconstruction_weight * error
        classes = activations.shape[1]
        self._measure(split, "accuracy", multi_hot(predicted, classes), multi_hot(labels, classes))
        self._measure(split, "loss", loss.detach(), len(labels))
        return loss

    def _measure(self, split: SplitName, name: str, *arguments: Any) -> None:
        metric = self.metrics[f"{split}_{name}"]
        metric.update(*arguments)  # type: ignore[operator]
        self.log(f"{split}/{name}", metric, on_step=False, on_epoch=True)  # type: ignore[arg-type]

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return min(1.0, self.global_step / max(1, self.trainer.estimated_stepping_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and, where there is one, its schedule."""
        optimizer = self.optimizer_factory(self.parameters())
        if self.scheduler_factory is None:
            return optimizer
        scheduler = self.scheduler_factory(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }


def most_active(activations: Float[Tensor, "batch class"], several: int) -> Int64[Tensor, "batch several"]:
    """The predicted classes: those of the most active capsules, the most active first."""
    return activations.detach().topk(several, dim=1).indices
