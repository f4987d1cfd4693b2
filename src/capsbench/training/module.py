"""Classification by capsule activations, for any architecture and router."""

from collections.abc import Callable, Iterable
from typing import Literal

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import MultilabelExactMatch

from capsbench.data import Batch
from capsbench.data.base import SplitName
from capsbench.routing import Capsules, NonFiniteError
from capsbench.training.finite import blame
from capsbench.training.losses import multi_hot

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class ClassificationModule(lightning.LightningModule):
    """Trains a capsule network on labels; the predicted classes are the most active capsules, as many as labels.

    An example counts as right if all its classes are. Logs `train/loss`, `train/accuracy`, and the same of `val` or
    `test`, once per epoch, kept on the device until then.

    Args:
        model: images (batch, channel, height, width) to class capsules.
        loss: (activations, labels, progress) to a scalar.
        optimizer: parameters to an optimizer.
        scheduler: optimizer to a learning-rate scheduler, or None for a constant rate.
        scheduler_interval: the scheduler steps once per "epoch" or per "step".
        num_classes: of the data.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.scheduler_interval = scheduler_interval
        self.accuracy = nn.ModuleDict(
            {
                f"{split}_accuracy": MultilabelExactMatch(num_classes, validate_args=False)
                for split in ("train", "val", "test")
            }
        )

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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a training batch."""
        return self._step("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy on a batch of what is watched during training: the validation or the test split."""
        self._step(self.trainer.datamodule.watched_split, batch)  # type: ignore[attr-defined]

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and accuracy on a batch of the test split."""
        self._step("test", batch)

    def _step(self, split: SplitName, batch: Batch) -> Tensor:
        activations = self(batch.images).activations
        loss: Tensor = self.loss(activations, batch.labels, self.progress)
        labels = batch.labels.reshape(len(activations), -1)
        predicted = activations.detach().topk(labels.shape[1], dim=1).indices
        accuracy = self.accuracy[f"{split}_accuracy"]
        accuracy(multi_hot(predicted, activations.shape[1]), multi_hot(labels, activations.shape[1]))
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, batch_size=len(labels))
        self.log(f"{split}/accuracy", accuracy, on_step=False, on_epoch=True, batch_size=len(labels))  # type: ignore[arg-type]
        return loss

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return min(1.0, self.global_step / max(1, self.trainer.estimated_stepping_batches))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and, where there is one, its schedule."""
        optimizer = self.optimizer_factory(self.model.parameters())
        if self.scheduler_factory is None:
            return optimizer
        scheduler = self.scheduler_factory(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }
