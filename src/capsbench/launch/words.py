"""Settings that are one of a few words: their classes refuse others, too, but only after PyTorch is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

Allowed = TypeVar("Allowed")
PARTS = (
    *("data", "data.augmentation", "arch", "router", "decoder", "decoder.network", "loss"),
    *("optim", "optim.optimizer", "optim.scheduler", "logger.wandb"),
    *(f"callbacks.{name}" for name in ("early_stopping", "best_checkpoint", "lr_monitor")),
)
"""Parts of a configuration that have settings of their own."""
INIT = ("torch", "keras")
WEIGHT_INIT = ("pair", "kernel")
IMPLEMENTATION = ("auto", "plain", "fused")
OF_CLASSES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "CapsNet": {
        "padding": ("valid", "same"),
        "primary": ("squash", "relu"),
        "weight_init": WEIGHT_INIT,
        "conv_init": INIT,
    },
    "ResNetCapsNet": {
        "vote_norm": ("shared", "per_vote", "none"),
        "weight_init": WEIGHT_INIT,
        "conv_init": INIT,
        "shortcut": ("activated", "raw"),
        "stride_padding": ("symmetric", "tensorflow"),
        "primary_norm": ("shared", "per_capsule"),
    },
    "DeepCaps": {
        "weight_init": WEIGHT_INIT,
        "conv_init": INIT,
        "stride_padding": ("symmetric", "tensorflow"),
    },
    "EfficientCapsNet": {"norm": ("batch", "instance"), "weight_init": WEIGHT_INIT, "conv_init": INIT},
    "MatrixCapsNet": {
        "competition": ("auto", "place", "all"),
        "vote_norm": ("shared", "per_vote", "none"),
        "weight_init": WEIGHT_INIT,
        "conv_init": INIT,
    },
    "ResNet": {
        "conv_init": INIT,
        "shortcut": ("activated", "raw"),
        "stride_padding": ("symmetric", "tensorflow"),
    },
    "AttentionRouting": {"implementation": IMPLEMENTATION},
    "HitOrMiss": {"implementation": IMPLEMENTATION},
    "InvertedAttention": {"implementation": IMPLEMENTATION},
    "VBRouting": {"implementation": IMPLEMENTATION},
    "FMAgreement": {"output": ("sum", "squash"), "implementation": IMPLEMENTATION},
    "DynamicRouting": {"implementation": IMPLEMENTATION},
    "EMRouting": {"implementation": IMPLEMENTATION},
    "DeconvDecoder": {"init": INIT},
    "DeepCapsDecoder": {"init": INIT},
    "DenseDecoder": {"init": INIT},
    "EarlyStopping": {"mode": ("min", "max")},
    "ModelCheckpoint": {"mode": ("min", "max")},
    "LearningRateMonitor": {"logging_interval": ("epoch", "step")},
    "WandbLogger": {"mode": ("online", "offline", "disabled", "shared", "dryrun", "run")},
    "MarginLoss": {"reduction": ("sum", "mean")},
    "SpreadLoss": {"schedule": ("linear", "sigmoid")},
    "AffNIST": {
        "test_source": ("official", "generated"),
        "placement": ("uncut", "6", "5"),
        "places": ("fresh", "exhaustive"),
    },
    "MultiMNIST": {"shift_base": ("each", "once")},
    "Arrays": {"layout": ("auto", "NHW", "NHWC", "NCHW")},
    "ImageFolder": {"fit": ("stretch", "crop", "pad")},
    "SmallNORB": {
        "cameras": ("separate", "pair"),
        "resize_filter": ("antialias", "mean"),
        "viewpoints": ("all", "novel_azimuth", "novel_elevation"),
    },
}
"""Settings of each class, by its name as in runs/defaults.yaml."""
OF_PARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "data": {"absent": ("fetch", "stand_in")},
    "optim": {"decay": ("all", "kernels"), "scheduler_interval": ("epoch", "step")},
}
"""Settings of a part, whatever its class."""


def check_words(config: Mapping[str, Any]) -> None:
    """Check the settings of a run that are one of a few words.

    Raises:
        ValueError: one is another word.
    """
    for setting, value, allowed in settings_with(OF_CLASSES, OF_PARTS, config):
        if value is not None and str(value) not in allowed:
            raise ValueError(f"{setting} must be {' or '.join(allowed)}, got {value!r}")


def settings_with(
    of_classes: Mapping[str, Mapping[str, Allowed]],
    of_parts: Mapping[str, Mapping[str, Allowed]],
    config: Mapping[str, Any],
) -> Iterator[tuple[str, Any, Allowed]]:
    """Each setting of a run that is listed for its class or its part, with its value and what it may be."""
    for part in PARTS:
        node: Any = config
        for key in part.split("."):
            node = node.get(key) or {}
        of_class = of_classes.get(str(node.get("_target_")).rpartition(".")[2], {})
        for key, allowed in {**of_class, **of_parts.get(part, {})}.items():
            yield f"{part}.{key}", node.get(key), allowed
