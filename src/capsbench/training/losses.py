"""Losses on class activations, and the squared error of reconstructions.

Each loss on activations takes activations (batch, class), labels (batch,) and how far training has come.
"""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


def multi_hot(labels: Int64[Tensor, "batch *several"], num_classes: int) -> Int64[Tensor, "batch class"]:
    """1 for each class that is among an example's labels, 0 for the others.

    >>> multi_hot(torch.tensor([[0, 2], [1, 2]]), 3)
    tensor([[1, 0, 1],
            [0, 1, 1]])
    """
    zeros = torch.zeros(len(labels), num_classes, dtype=torch.int64, device=labels.device)
    return zeros.scatter(1, labels.reshape(len(labels), -1), 1)


def check_single(labels: Int64[Tensor, "batch *several"]) -> None:
    """Make sure that each example has one label.

    Raises:
        ValueError: they have several.
    """
    if labels.ndim > 1:
        raise ValueError(f"this loss takes one label for each image, got {labels.shape[1]}; use loss=margin")


class MarginLoss(nn.Module):
    """Eq. 9 of the paper; Sabour et al. 2017 (arXiv:1710.09829), eq. 4. Summed over classes, mean over the batch.

    Args:
        present: m⁺, what the activation of the right class should exceed.
        absent: m⁻, what the others should stay below.
        down_weight: λ, the weight of the absent classes.

    The one loss here for examples that show several classes: labels (batch, several) then.
    """

    def __init__(self, present: float = 0.9, absent: float = 0.1, down_weight: float = 0.5) -> None:
        super().__init__()
        self.present = present
        self.absent = absent
        self.down_weight = down_weight

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The loss of a batch; `progress` plays no part."""
        is_present = multi_hot(labels, activations.shape[1]).to(activations.dtype)
        too_weak = (self.present - activations).clamp_min(0).square()
        too_strong = (activations - self.absent).clamp_min(0).square()
        return (is_present * too_weak + self.down_weight * (1 - is_present) * too_strong).sum(dim=1).mean()


class CrossEntropyLoss(nn.Module):
    """Softmax cross-entropy.

    Args:
        normalize: divide activations by their sum instead of a softmax, as the authors' code does in §4.3.1. For
            activations that are not negative (dynamic and EM routing).
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The loss of a batch; `progress` plays no part. ValueError where an image has several labels."""
        check_single(labels)
        if not self.normalize:
            return F.cross_entropy(activations, labels)
        tiny = 1e-7
        positive = activations.clamp_min(tiny)
        return F.nll_loss((positive / positive.sum(dim=1, keepdim=True)).log(), labels)


class SpreadLoss(nn.Module):
    """Spread loss: every wrong class within a margin of the right one costs. Summed over classes, mean over the batch.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing", eq. 3.

    Args:
        start, end: the margin at the beginning and at the end of training; it grows in proportion.
    """

    def __init__(self, start: float = 0.2, end: float = 0.9) -> None:
        super().__init__()
        self.start = start
        self.end = end

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The loss of a batch; `progress` in [0, 1] is how much of the training is done. ValueError as above."""
        check_single(labels)
        margin = self.start + (self.end - self.start) * progress
        right = activations.gather(1, labels.unsqueeze(1))
        costs = (margin - (right - activations)).clamp_min(0).square()
        return (costs.sum(dim=1) - margin**2).mean()


def reconstruction_error(
    drawn: Float[Tensor, "batch several channel height width"],
    targets: Float[Tensor, "batch several channel height width"],
) -> Float[Tensor, ""]:
    """Squared error summed over pixels and over the images of an example, mean over the batch.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4.1; for several images §6.
    """
    return (drawn - targets).square().flatten(1).sum(dim=1).mean()


def unordered_reconstruction_error(
    drawn: Float[Tensor, "batch several channel height width"],
    targets: Float[Tensor, "batch several channel height width"],
) -> Float[Tensor, ""]:
    """The same where nobody says which drawing is meant for which target: of all assignments the best."""
    pairwise = (drawn.unsqueeze(2) - targets.unsqueeze(1)).square().flatten(3).sum(dim=3)
    several = range(drawn.shape[1])
    totals = [pairwise[:, several, order].sum(dim=1) for order in map(list, itertools.permutations(several))]
    return torch.stack(totals).amin(dim=0).mean()
