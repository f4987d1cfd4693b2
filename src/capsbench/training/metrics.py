"""Metrics over examples, in full precision."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, distributed, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelExactMatch, MultilabelF1Score
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

States = Mapping[str, Mapping[str, Tensor]]
"""Of metrics, by their names."""


class Metrics(nn.ModuleDict):
    """Metrics by name. They follow their network to a device, and stay as they are where it is cast to 16 bits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Metrics":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(torch.empty_like(tensor)).device)

        return super()._apply(move, recurse)  # type: ignore[no-untyped-call]

    def states(self) -> States:
        """What the metrics have seen, which torchmetrics keeps out of `state_dict`. All ranks must call it.

        Each rank has seen its own examples, so over several ranks the first dimension of a tensor is the rank. What
        keeps every example is of evaluations alone, which begin anew.
        """
        found: States = {
            name: {key: value for key, value in metric.metric_state.items() if isinstance(value, Tensor)}  # type: ignore[union-attr, operator]
            for name, metric in self.items()
        }
        if not _is_shared():
            return found
        return {
            name: {key: torch.stack(gather_all_tensors(value)) for key, value in state.items()}
            for name, state in found.items()
        }

    def restore(self, states: States) -> None:
        """Go on from what `states` returned on as many ranks.

        Raises:
            ValueError: over several ranks, the states are those of one: earlier versions kept no others.
        """
        for name, state in states.items():
            for key, value in state.items():
                if _is_shared() and value.ndim == 0:
                    raise ValueError(
                        "an earlier version left this run; it cannot go on: delete its folder to begin anew"
                    )
                setattr(self[name], key, value[distributed.get_rank()] if _is_shared() else value)


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def mean_over_examples() -> MeanMetric:
    """Make a mean that takes one value for each example.

    NaN shows in the mean, and no update waits for the device to look for it: that is what "disable" means. Never give
    it weights: it would drop them (torchmetrics issue 3434).
    """
    return MeanMetric(nan_strategy="disable")


class AveragePrecision(MultilabelAveragePrecision):
    """The average precision of the activations of each class, and its mean over the classes that an image shows.

    Activations may be any numbers. The mean is 0 where no image shows any class.

    Attributes:
        by_class: what `compute` found, NaN of a class that no image shows.

    Args:
        num_classes: of the data.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none", validate_args=False)
        self.by_class = torch.full((num_classes,), torch.nan)

    def update(self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch class"]) -> None:
        """Take a batch; labels are 0 or 1."""
        # Only their order counts. torchmetrics would do this to batches with an activation outside [0, 1] alone.
        super().update(activations.double().sigmoid(), labels)

    def compute(self) -> Float[Tensor, ""]:  # type: ignore[override]
        """Return the mean over classes."""
        scores, labels = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        shown = labels.bool().any(dim=0)  # of the others torchmetrics says 0, and counts that in the mean
        self.by_class = torch.full_like(scores[0], torch.nan)
        if shown.any():
            self.by_class[shown] = multilabel_average_precision(
                scores[:, shown], labels[:, shown], int(shown.sum()), average="none", validate_args=False
            ).to(self.by_class.dtype)
        return self.by_class.nanmean().nan_to_num().float()


BY_ORDER = "map"
"""Takes activations; other measures take what is predicted."""
MEASURES = ("accuracy", "exact_match", "f1", BY_ORDER)


def measures(num_classes: int, labels_per_image: int | None, in_training: bool = False) -> dict[str, Metric]:
    """Make what measures predictions, by name: those of `MEASURES` that fit the labels.

    Args:
        num_classes: of the data.
        labels_per_image: None: any number.
        in_training: leave out what keeps every example.
    """
    exact = MultilabelExactMatch(num_classes, validate_args=False)
    if labels_per_image is not None:
        return {"accuracy": exact}
    of_labels = MultilabelF1Score(num_classes, average="macro", validate_args=False)
    made: dict[str, Metric] = {"exact_match": exact, "f1": of_labels}
    return made if in_training else {**made, BY_ORDER: AveragePrecision(num_classes)}
