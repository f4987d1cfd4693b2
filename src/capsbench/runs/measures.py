"""What the metrics of a run are called, and which of them it is judged by."""

from collections.abc import Mapping

EXACT_MATCH = "exact_match"
MAIN = {"accuracy": "accuracy", EXACT_MATCH: "exact match"}
"""What a run is judged by, in words: a run whose images have any number of labels has no accuracy."""
BESIDE = {"f1": "F1", "map": "mAP"}
"""What is told beside an exact match: means over classes."""


def main_metric(metrics: Mapping[str, float | int], splits: tuple[str, ...] = ("val", "test")) -> str:
    """Name the metric that a run is judged by, of the validation split if there is one.

    >>> main_metric({"train/accuracy": 0.9, "test/accuracy": 0.8})
    'test/accuracy'
    """
    names = [f"{split}/{measure}" for split in splits for measure in MAIN]
    return next((name for name in names if name in metrics), f"{splits[-1]}/accuracy")


def in_words(metrics: Mapping[str, float | int], split: str) -> str:
    """Say what was measured on a split; nothing if it was not.

    >>> in_words({"test/exact_match": 0.5, "test/f1": 0.75, "test/map": 0.8}, "test")
    'test exact match 50.00 %, F1 75.00 %, mAP 80.00 %'
    """
    names = {**MAIN, **BESIDE}
    told = [
        f"{words} {100 * metrics[key]:.2f} %" for name, words in names.items() if (key := f"{split}/{name}") in metrics
    ]
    return f"{split} {', '.join(told)}" if told else ""
