"""scikit-learn's digits, enlarged: a data set of their own, and in place of sets whose files are missing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from capsbench.data.batch import LabelledImages, StoredSplit


def stand_in_digits(split: StoredSplit, shape: tuple[int, int, int], num_classes: int) -> LabelledImages:
    """Make a training split of 512 digits or a test split of 256 in the form of another set.

    Args:
        split: which of the two.
        shape: (channels, height, width) of its images.
        num_classes: its classes; digit d becomes class d mod num_classes.
    """
    channels, *size = shape
    digits = enlarged_digits(size)
    every = LabelledImages(digits.images.repeat(1, channels, 1, 1), digits.labels % num_classes)
    return every.take(range(512) if split == "train" else range(512, 768))


def enlarged_digits(size: Sequence[int]) -> LabelledImages:
    """Enlarge scikit-learn's 1,797 digits of 8×8 to (height, width), bilinearly, and scale 0…16 to bytes."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(small, size=tuple(size), mode="bilinear").round().to(torch.uint8)
    return LabelledImages(images, torch.from_numpy(labels).long())
