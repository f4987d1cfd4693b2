"""Settings that are one of a few words: their classes refuse others, too, but only after PyTorch is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

INIT = ("torch", "keras")
WEIGHT_INIT = ("pair", "kernel")
IMPLEMENTATION = ("auto", "plain", "fused")
OF_CLASSES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "CapsNet": {"weight_init": WEIGHT_INIT, "conv_init": INIT},
    "ResNetCapsNet": {
        "vote_norm": ("shared", "per_vote", "none"),
        "weight_init": WEIGHT_INIT,
        "conv_init": INIT,
        "shortcut": ("activated", "raw"),
        "stride_padding": ("symmetric", "tensorflow"),
        "primary_norm": ("shared", "per_capsule"),
    },
    "FMAgreement": {"output": ("sum", "squash"), "implementation": IMPLEMENTATION},
    "DynamicRouting": {"implementation": IMPLEMENTATION},
    "EMRouting": {"implementation": IMPLEMENTATION},
    "DeconvDecoder": {"init": INIT},
    "DenseDecoder": {"init": INIT},
    "MarginLoss": {"reduction": ("sum", "mean")},
    "AffNIST": {
        "test_source": ("official", "generated"),
        "placement": ("uncut", "6", "5"),
        "places": ("fresh", "exhaustive"),
    },
    "MultiMNIST": {"shift_base": ("each", "once")},
    "SmallNORB": {
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
    for setting, value, allowed in _words(config):
        if value is not None and str(value) not in allowed:
            raise ValueError(f"{setting} must be {' or '.join(allowed)}, got {value!r}")


def _words(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, Sequence[str]]]:
    """Each setting with its value and what it may be."""
    for part in ("data", "arch", "router", "decoder.network", "loss", "optim"):
        node: Any = config
        for key in part.split("."):
            node = node[key] or {}
        of_class = OF_CLASSES.get(str(node.get("_target_")).rpartition(".")[2], {})
        for key, allowed in {**of_class, **OF_PARTS.get(part, {})}.items():
            yield f"{part}.{key}", node.get(key), allowed
