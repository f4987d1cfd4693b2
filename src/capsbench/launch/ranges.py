"""Numbers that have a range: their classes refuse others, too, but only when a run is built, which takes PyTorch."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from omegaconf import ListConfig

from capsbench.launch.words import settings_with


class Range(NamedTuple):
    """Numbers that a setting may be, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


AT_LEAST_0 = Range("at least 0", lambda number: 0 <= number < math.inf)
AT_LEAST_1 = Range("at least 1", lambda number: 1 <= number < math.inf)
COUNT = Range("an integer of at least 1", AT_LEAST_1.holds)
POSITIVE = Range("positive", lambda number: 0 < number < math.inf)
SHARE = Range("at least 0 and below 1", lambda number: 0 <= number < 1)
PART = Range("between 0 and 1", lambda number: 0 < number < 1)
UP_TO_1 = Range("from 0 to 1", lambda number: 0 <= number <= 1)
FINITE = Range("a finite number", math.isfinite)

ADAM = {"lr": AT_LEAST_0, "eps": AT_LEAST_0, "weight_decay": AT_LEAST_0, "betas": SHARE}
OF_CLASSES: Mapping[str, Mapping[str, Range]] = {
    "Arrays": {"test_fraction": PART, "value_range": FINITE},
    "ImageFolder": {"test_fraction": PART},
    "AffNIST": {"per_digit": AT_LEAST_1},
    "MultiMNIST": {"per_digit": AT_LEAST_1, "max_shift": AT_LEAST_0},
    "SmallNORB": {"brightness": AT_LEAST_0, "contrast": SHARE},
    "Augmentation": {
        **dict.fromkeys(("crop_padding", "brightness"), AT_LEAST_0),
        **dict.fromkeys(("shift", "zoom", "contrast"), SHARE),
    },
    "CapsNet": dict.fromkeys(("filters", "groups", "primary_dim", "pose_dim"), AT_LEAST_1),
    "ResNetCapsNet": {
        **dict.fromkeys(("blocks", "hidden_capsules", "groups", "pose_dim"), AT_LEAST_1),
        "vote_gain": POSITIVE,
        "batch_norm_momentum": UP_TO_1,
    },
    "DeepCaps": {
        **dict.fromkeys(("filters", "types", "first_dim", "dim", "pose_dim"), AT_LEAST_1),
        "iterations": COUNT,
        "batch_norm_momentum": UP_TO_1,
    },
    "EfficientCapsNet": {
        **dict.fromkeys(("first_kernel", "first_stride", "primary_dim", "pose_dim"), AT_LEAST_1),
        "batch_norm_momentum": UP_TO_1,
    },
    "MatrixCapsNet": {
        **dict.fromkeys(("filters", "primary_types", "hidden_types", "pose_dim"), AT_LEAST_1),
        "first_padding": AT_LEAST_0,
        "vote_gain": POSITIVE,
    },
    "ResNet": {"blocks": AT_LEAST_1, "batch_norm_momentum": UP_TO_1},
    "HitOrMiss": {"batch_norm_momentum": UP_TO_1},
    "InvertedAttention": {"iterations": COUNT},
    "VBRouting": {"iterations": COUNT},
    "FMAgreement": {"scale": POSITIVE},
    "DynamicRouting": {"iterations": COUNT},
    "EMRouting": {"iterations": COUNT, "beta_a": FINITE, "beta_v": FINITE},
    "DeconvDecoder": {"filters": Range("at least 4", lambda number: number >= 4), "batch_norm_momentum": UP_TO_1},
    "DeepCapsDecoder": {"batch_norm_momentum": UP_TO_1},
    "DenseDecoder": {"hidden": AT_LEAST_1},
    "CrossEntropyLoss": {"scale": POSITIVE},
    "SpreadLoss": {"steps": AT_LEAST_1},
    "CentripetalLoss": {
        "pose_dim": AT_LEAST_1,
        "ring": POSITIVE,
        **dict.fromkeys(("slope", "down_weight"), AT_LEAST_0),
    },
    "Adam": ADAM,
    "KerasAdam": ADAM,
    "SGD": dict.fromkeys(("lr", "momentum", "weight_decay"), AT_LEAST_0),
    "CosineAnnealingLR": {"T_max": AT_LEAST_1},
    "StepLR": {"step_size": AT_LEAST_1},
}
"""Settings of each class, by its name as in runs/defaults.yaml; of a list, each of its numbers."""
OF_PARTS: Mapping[str, Mapping[str, Range]] = {
    "data": {
        **dict.fromkeys(("batch_size", "eval_batch_size", "subset", "test_subset", "resize", "crop"), AT_LEAST_1),
        "val_fraction": SHARE,
        "class_weights": POSITIVE,
    },
    "decoder": {"loss_weight": AT_LEAST_0},
}
"""Settings of a part, whatever its class."""


def check_ranges(config: Mapping[str, Any]) -> None:
    """Check the settings of a run that are numbers of a range.

    Raises:
        ValueError: one is out of it.
    """
    for setting, value, allowed in settings_with(OF_CLASSES, OF_PARTS, config):
        for number in value if isinstance(value, ListConfig) else [value]:
            if isinstance(number, int | float) and not allowed.holds(number):
                raise ValueError(f"{setting} must be {allowed.words}, got {value}")
