"""What is checked of a result, beside the types of its fields, before it is believed."""

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from capsbench.runs.measures import BESIDE, MAIN

if TYPE_CHECKING:
    from capsbench.runs.result import Result

PARTS = ("data", "arch", "router", "decoder", "loss", "optim", "trainer", "callbacks")
"""Settings that are groups of settings."""
COUNTS = ("true_positives", "false_negatives", "false_positives", "true_negatives")
OURS = "capsbench."
"""How the names of our own classes begin; the losses of these are never negative."""


def holds_out(data: Mapping[str, Any]) -> bool:
    """Whether a run with these settings of its data has a validation split."""
    return bool(data.get("val_fraction") or data.get("val_split"))


def check_record(record: Any, newest: int) -> int:
    """Check what is read before it is brought up to date.

    Args:
        record: as JSON has it.
        newest: the schema of this version.

    Returns:
        Its schema.

    Raises:
        ValueError: it is no object, or was written by a newer version.
    """
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    schema = record.get("schema", 1)
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= newest:
        raise ValueError(f"its schema must be a whole number up to {newest}, the newest known here, got {schema!r}")
    if not isinstance(record.get("settings"), dict):
        raise ValueError("its settings are missing, or no JSON object")
    return schema


def check_result(result: "Result") -> None:
    """Check that the parts of a result agree, and the ranges of what was measured.

    Raises:
        ValueError: they do not, or something is out of its range.
    """
    settings = result.settings
    for part in PARTS:
        if not isinstance(settings.get(part, {}), Mapping):
            raise ValueError(f"settings.{part} must be a JSON object, got {reprlib.repr(settings[part])}")
    if settings.get("seed", result.seed) != result.seed:
        raise ValueError(f"its seed is {result.seed}, but {reprlib.repr(settings['seed'])} in its settings")
    if result.run.digest != result.identity:
        raise ValueError(f"its identity is {result.identity}, but its settings are those of {result.run.digest}")
    is_ours = str(settings.get("loss", {}).get("_target_", OURS)).startswith(OURS)
    _check_measures("metrics", result.metrics, is_ours)
    split = result.watched_split if holds_out(settings.get("data", {})) else "test"
    if not any(f"{split}/{measure}" in result.metrics for measure in MAIN):
        raise ValueError(f"metrics.{split}/accuracy is missing")
    epochs = [_whole(row, "epoch") for row in result.history]
    if epochs != sorted(set(epochs)) or (result.epochs > 0 and not epochs):
        raise ValueError(f"history must have ascending epochs, got {reprlib.repr(epochs)}")
    for number, row in enumerate(result.history):
        _whole(row, "step", 0)
        _check_measures(f"history.{number}", row, is_ours)
    for split, counts in result.confusion.items():
        classes = len(result.class_names) or len(counts)
        if len(counts) != classes or any(len(row) != classes for row in counts) or not any(map(any, counts)):
            raise ValueError(f"confusion.{split} must have {classes} rows and columns, a class each, and examples")
    for split, rows in result.by_label.items():
        if len(rows) != len(result.class_names):
            raise ValueError(f"by_label.{split} must have {len(result.class_names)} rows, a class each")
        for row in rows:
            if missing := [name for name in COUNTS if not isinstance(row.get(name), int)]:
                raise ValueError(f"by_label.{split} must count {missing[0]} of each class")


def _check_measures(place: str, measures: Mapping[str, float | int], is_ours: bool) -> None:
    """Check shares and losses; what else is measured need only be finite."""
    for name, value in measures.items():
        kind = name.rpartition("/")[2]
        if (kind in (*MAIN, *BESIDE) or kind.startswith("accuracy_")) and not 0 <= value <= 1:
            raise ValueError(f"{place}.{name} must be from 0 to 1, got {value}")
        if (kind == "reconstruction" or (kind == "loss" and is_ours)) and value < 0:
            raise ValueError(f"{place}.{name} must be at least 0, got {value}")


def _whole(row: Mapping[str, float | int], name: str, default: int | None = None) -> int:
    value = row.get(name, default)
    if not isinstance(value, int) or value < (1 if name == "epoch" else 0):
        raise ValueError(f"history: {name} must be a whole number, got {value}")
    return value
