"""Whether a finished run learned."""

import math

from capsbench.runs.result import Result

ABOVE_CHANCE = 0.03
"""A run that comes no further above chance did not learn."""
CLASSES = {"MultiMNIST": 10, "SmallNORB": 5} | dict.fromkeys(
    ("AffNIST", "CIFAR10", "Digits", "FashionMNIST", "MNIST", "SVHN"), 10
)
"""Of data sets, for results that do not name theirs."""
TWO_OF_THEM = ("MultiMNIST",)
"""Data sets of two different classes an image, both of which must be right."""


def has_learned(result: Result) -> bool:
    """Tell whether the final accuracy, or exact match, is more than 3 points above chance; a crashed run has none."""
    return result.metrics.get(result.main_metric, math.nan) > chance(result) + ABOVE_CHANCE


def chance(result: Result) -> float:
    """Return the accuracy of naming the most frequent class, from the counts of the confusion matrix.

    Of images with any number of labels it is the exact match of naming the most frequent set of them. Without counts it
    is 1 / number of classes, or of pairs of classes: Multi-MNIST shows two of ten digits, which makes 45 pairs. It is 0
    where the number is not known.
    """
    if result.most_frequent_labels is not None:
        return result.most_frequent_labels
    if counts := result.confusion.get(result.watched_split):
        images = [sum(row) for row in counts]
        return max(images) / sum(images)
    data = str(result.settings.get("data", {}).get("_target_")).rpartition(".")[2]
    classes = len(result.class_names) or CLASSES.get(data, 0)
    guesses = math.comb(classes, 2) if data in TWO_OF_THEM else classes
    return 1 / guesses if guesses else 0.0
