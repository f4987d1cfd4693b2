"""Losses on class activations, and the squared error of reconstructions.

Every loss on activations is called as `loss(activations, labels, progress)`: activations (batch, class), labels
(batch,), and the fraction of the training done so far, in [0, 1]. Labels are (batch, several) where each image shows
as many classes, and bool (batch, class) where it shows any number. A loss whose `forward` has an argument `step` is
told the number of steps done so far, too; one with `weights` can be given a weight for each example.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from capsbench.routing import check_choice

Labels = Int64[Tensor, "batch *several"] | Bool[Tensor, "batch class"]
Weights = Float[Tensor, "batch"] | None


def multi_hot(labels: Labels, num_classes: int) -> Int64[Tensor, "batch class"]:
    """Encode labels as 1 for each class of an example and 0 for every other class.

    >>> multi_hot(torch.tensor([[0, 2], [1, 2]]), 3)
    tensor([[1, 0, 1],
            [0, 1, 1]])
    """
    if labels.dtype == torch.bool:
        return labels.long()
    zeros = torch.zeros(len(labels), num_classes, dtype=torch.int64, device=labels.device)
    return zeros.scatter(1, labels.reshape(len(labels), -1), 1)


def check_single(labels: Labels) -> None:
    """Check that each example has exactly one label.

    Raises:
        ValueError: examples have several labels.
    """
    if labels.ndim > 1:
        found = "any number" if labels.dtype == torch.bool else labels.shape[1]
        raise ValueError(f"this loss takes one label for each image, got {found}; use loss=margin")


class MarginLoss(nn.Module):
    """Penalise activations of present classes below a margin, and of absent classes above another.

    Costs are averaged over the batch. Examples may have several labels, or any number.

    Source: eq. 9 of the paper; Sabour et al. 2017 (arXiv:1710.09829), eq. 4.

    Args:
        present: m⁺, the activation of a present class should exceed it.
        absent: m⁻, the activation of an absent class should stay below it.
        down_weight: λ, weight of the absent classes.
        reduction: of the costs of an example's classes: their "sum", as in Sabour et al., or their "mean", as in the
            authors' code for §4.1 and §4.3.2.

    Raises:
        ValueError: reduction is neither of the two.
    """

    def __init__(
        self, present: float = 0.9, absent: float = 0.1, down_weight: float = 0.5, reduction: str = "sum"
    ) -> None:
        super().__init__()
        check_choice("loss.reduction", reduction, "sum", "mean")
        self.present = present
        self.absent = absent
        self.down_weight = down_weight
        self.reduction = reduction

    def forward(
        self,
        activations: Float[Tensor, "batch class"],
        labels: Labels,
        progress: float = 1.0,
        weights: Weights = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` is unused; every loss has this signature."""
        is_present = multi_hot(labels, activations.shape[1]).to(activations.dtype)
        too_weak = (self.present - activations).clamp_min(0).square()
        too_strong = (activations - self.absent).clamp_min(0).square()
        costs = is_present * too_weak + self.down_weight * (1 - is_present) * too_strong
        if weights is not None:
            costs = weights.unsqueeze(1) * costs
        return costs.mean() if self.reduction == "mean" else costs.sum(dim=1).mean()


class CrossEntropyLoss(nn.Module):
    """Cross-entropy of a softmax of activations, or of their shares, averaged over the batch.

    A softmax of activations in [0, 1] stays far from certainty: with 5 classes its loss cannot fall below 0.905. So the
    activations may be scaled first.

    Args:
        normalize: take each activation's share in their sum, a/Σa, instead of a softmax, as the authors' code does for
            §4.3.1. As there, shares are clipped to [1e-7, 1 - 1e-7]; activations below 1e-7 count as 1e-7.
        scale: α in a softmax of α·a: a positive number, or "learned", which starts from 1.

    Attributes:
        scale: α, a number or a parameter.

    Raises:
        ValueError: scale is neither a positive number nor "learned", or is set though there is no softmax.
    """

    TINY = 1e-7

    def __init__(self, normalize: bool = False, scale: int | float | str = 1.0) -> None:
        super().__init__()
        is_number = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < math.inf
        if not is_number and scale != "learned":
            raise ValueError(f"loss.scale must be a positive number or learned, got {scale!r}")
        if normalize and scale != 1:
            raise ValueError("loss.scale has no effect with loss.normalize=true; leave one of them out")
        self.normalize = normalize
        self.scale = nn.Parameter(torch.ones(())) if isinstance(scale, str) else scale

    def forward(
        self,
        activations: Float[Tensor, "batch class"],
        labels: Labels,
        progress: float = 1.0,
        weights: Weights = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` is unused; every loss has this signature.

        Raises:
            ValueError: examples have several labels.
        """
        check_single(labels)
        reduction = "mean" if weights is None else "none"
        if self.normalize:
            positive = activations.clamp_min(self.TINY)
            shares = positive / positive.sum(dim=1, keepdim=True)
            costs = F.nll_loss(shares.clamp(self.TINY, 1 - self.TINY).log(), labels, reduction=reduction)
        else:
            costs = F.cross_entropy(self.scale * activations, labels, reduction=reduction)
        return costs if weights is None else (weights * costs).mean()


class SpreadLoss(nn.Module):
    """Penalise every wrong class whose activation comes within a margin of the right class.

    The costs are summed over classes and averaged over the batch. The margin grows during training.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing", eq. 3. The sigmoid is that of the authors' code, with
    0.2 to 0.99 and `steps` of 50,000, which we take as a twentieth of their run.

    Args:
        start, end: margin at the start and at the end of training.
        schedule: "linear" in the fraction of the training done, or "sigmoid": the share of the way from start to end is
            σ(min(10, step / steps - 4)).
        steps: by which the sigmoid is scaled; None: a twentieth of the run.

    Raises:
        ValueError: schedule is neither of the two, or steps is below 1 or has no effect.

    >>> loss = SpreadLoss(end=0.99, schedule="sigmoid", steps=50_000)
    >>> [round(loss.margin(step=step), 3) for step in (0, 200_000, 1_000_000)]
    [0.214, 0.595, 0.99]
    """

    def __init__(
        self, start: float = 0.2, end: float = 0.9, schedule: str = "linear", steps: int | None = None
    ) -> None:
        super().__init__()
        check_choice("loss.schedule", schedule, "linear", "sigmoid")
        if steps is not None and steps < 1:
            raise ValueError(f"loss.steps must be at least 1, got {steps}")
        if steps is not None and schedule == "linear":
            raise ValueError("loss.steps has no effect with loss.schedule=linear; leave it out")
        self.start = start
        self.end = end
        self.schedule = schedule
        self.steps = steps

    def forward(
        self,
        activations: Float[Tensor, "batch class"],
        labels: Labels,
        progress: float = 1.0,
        step: int | float = math.inf,
        weights: Weights = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` or `step` sets the margin.

        Raises:
            ValueError: examples have several labels.
        """
        check_single(labels)
        margin = self.margin(progress, step)
        right = activations.gather(1, labels.unsqueeze(1))
        costs = (margin - (right - activations)).clamp_min(0).square().sum(dim=1) - margin**2
        return (costs if weights is None else weights * costs).mean()

    def margin(self, progress: float = 1.0, step: int | float = math.inf) -> float:
        """Return the margin after a fraction of the training, or after so many steps."""
        if self.schedule == "linear":
            return self.start + (self.end - self.start) * progress
        x = 20 * progress if self.steps is None else step / self.steps
        return self.start + (self.end - self.start) / (1 + math.exp(-min(10, x - 4)))


def reconstruction_error(
    drawn: Float[Tensor, "batch several channel height width"],
    targets: Float[Tensor, "batch several channel height width"],
) -> Float[Tensor, ""]:
    """Return the squared error, summed over the pixels of all images of an example, averaged over the batch.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4.1; for several images §6.
    """
    return (drawn - targets).square().flatten(1).sum(dim=1).mean()


def unordered_reconstruction_error(
    drawn: Float[Tensor, "batch several channel height width"],
    targets: Float[Tensor, "batch several channel height width"],
) -> Float[Tensor, ""]:
    """Return `reconstruction_error` under the best matching of reconstructions to targets, chosen per example."""
    pairwise = (drawn.unsqueeze(2) - targets.unsqueeze(1)).square().flatten(3).sum(dim=3)
    several = range(drawn.shape[1])
    totals = [pairwise[:, several, order].sum(dim=1) for order in map(list, itertools.permutations(several))]
    return torch.stack(totals).amin(dim=0).mean()
