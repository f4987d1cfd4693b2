"""Weights of classes in the loss, for sets in which classes are not equally frequent."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BALANCED = "balanced"

Weights = str | Sequence[int | float] | None
"""Of classes: `BALANCED`, a number for each class, or None."""


def check_weights(asked: object) -> None:
    """Check what was asked for, as far as that goes without data.

    Raises:
        ValueError: it is another word, or a weight is not positive.
    """
    if asked is None or asked == BALANCED:
        return
    if isinstance(asked, str) or not isinstance(asked, Sequence):
        raise ValueError(
            f"data.class_weights must be {BALANCED}, a list of a weight for each class, or null, got {asked}"
        )
    for weight in asked:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(f"data.class_weights must be positive numbers, got {weight}")


def class_weights(
    asked: Weights, labels: Int64[Tensor, "example"], names: Sequence[str]
) -> Float[Tensor, "class"] | None:
    """Give each class its weight.

    Balanced weights are n / (k · n_c) for n examples of k classes, n_c of them of the class, as scikit-learn has it:
    every class then has the same share in the loss, and an example the weight 1 in the mean.

    Args:
        asked: see `Weights`.
        labels: of the training split.
        names: of the classes.

    Raises:
        ValueError: there are more or fewer weights than classes, or a class without examples is to be balanced.

    >>> class_weights("balanced", torch.tensor([0, 0, 0, 1]), ["cat", "dog"])
    tensor([0.6667, 2.0000])
    """
    if asked is None:
        return None
    if asked != BALANCED:
        if len(asked) != len(names):
            raise ValueError(
                f"data.class_weights must be {len(names)} numbers, one for each of {', '.join(names)}, got {len(asked)}"
            )
        return torch.tensor([float(weight) for weight in asked])
    counts = labels.bincount(minlength=len(names))
    if (counts == 0).any():
        missing = names[int((counts == 0).nonzero()[0])]
        raise ValueError(
            f"data.class_weights={BALANCED} needs training images of each class, there is none of {missing}"
        )
    return len(labels) / (len(names) * counts)
