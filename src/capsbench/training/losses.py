"""Losses on class activations, and the squared error of reconstructions.

Every loss on activations is called as `loss(activations, labels, progress)`: activations (batch, class), labels
(batch,), and the fraction of the training done so far, in [0, 1].
"""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


def multi_hot(labels: Int64[Tensor, "batch *several"], num_classes: int) -> Int64[Tensor, "batch class"]:
    """Encode labels as 1 for each class of an example and 0 for every other class.

    >>> multi_hot(torch.tensor([[0, 2], [1, 2]]), 3)
    tensor([[1, 0, 1],
            [0, 1, 1]])
    """
    zeros = torch.zeros(len(labels), num_classes, dtype=torch.int64, device=labels.device)
    return zeros.scatter(1, labels.reshape(len(labels), -1), 1)


def check_single(labels: Int64[Tensor, "batch *several"]) -> None:
    """Check that each example has exactly one label.

    Raises:
        ValueError: examples have several labels.
    """
    if labels.ndim > 1:
        raise ValueError(f"this loss takes one label for each image, got {labels.shape[1]}; use loss=margin")


class MarginLoss(nn.Module):
    """Penalise activations of present classes below a margin, and of absent classes above another.

    The costs are summed over classes and averaged over the batch. Examples may have several labels: (batch, several).

    Source: eq. 9 of the paper; Sabour et al. 2017 (arXiv:1710.09829), eq. 4.

    Args:
        present: m⁺, the activation of a present class should exceed it.
        absent: m⁻, the activation of an absent class should stay below it.
        down_weight: λ, weight of the absent classes.
    """

    def __init__(self, present: float = 0.9, absent: float = 0.1, down_weight: float = 0.5) -> None:
        super().__init__()
        self.present = present
        self.absent = absent
        self.down_weight = down_weight

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` is unused; every loss has this signature."""
        is_present = multi_hot(labels, activations.shape[1]).to(activations.dtype)
        too_weak = (self.present - activations).clamp_min(0).square()
        too_strong = (activations - self.absent).clamp_min(0).square()
        return (is_present * too_weak + self.down_weight * (1 - is_present) * too_strong).sum(dim=1).mean()


class CrossEntropyLoss(nn.Module):
    """Softmax cross-entropy on activations, averaged over the batch.

    Args:
        normalize: divide activations by their sum instead of applying softmax, as the authors' code does for §4.3.1.
            Meant for activations that are never negative (dynamic and EM routing).
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` is unused; every loss has this signature.

        Raises:
            ValueError: examples have several labels.
        """
        check_single(labels)
        if not self.normalize:
            return F.cross_entropy(activations, labels)
        tiny = 1e-7
        positive = activations.clamp_min(tiny)
        return F.nll_loss((positive / positive.sum(dim=1, keepdim=True)).log(), labels)


class SpreadLoss(nn.Module):
    """Penalise every wrong class whose activation comes within a margin of the right class.

    The costs are summed over classes and averaged over the batch. The margin grows linearly during training.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing", eq. 3.

    Args:
        start, end: margin at the start and at the end of training.
    """

    def __init__(self, start: float = 0.2, end: float = 0.9) -> None:
        super().__init__()
        self.start = start
        self.end = end

    def forward(
        self, activations: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch *several"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` sets the margin.

        Raises:
            ValueError: examples have several labels.
        """
        check_single(labels)
        margin = self.start + (self.end - self.start) * progress
        right = activations.gather(1, labels.unsqueeze(1))
        costs = (margin - (right - activations)).clamp_min(0).square()
        return (costs.sum(dim=1) - margin**2).mean()


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
