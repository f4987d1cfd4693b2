"""What a benchmark's JSON file holds, and how to find something in it."""

from collections.abc import Mapping, Sequence
from typing import Any

Measurements = Sequence[Mapping[str, Any]]
"""Records of a benchmark's JSON file: subject, router, implementation, quantity, unit, median, least, most, …

Older files lack the later fields."""

VOTES_ALONE = "votes alone"
DIRECTIONS = ("forward", "forward and backward")


def find(measurements: Measurements, **wanted: Any) -> Mapping[str, Any] | None:
    """Return the measurement with these fields, or None."""
    return next((one for one in measurements if all(one.get(name) == value for name, value in wanted.items())), None)


def keys_of(measurements: Measurements, *fields: str) -> list[tuple[Any, ...]]:
    """The values of fields that occur together, each once, in order; an older file may lack a field."""
    return list(dict.fromkeys(tuple(one.get(field) for field in fields) for one in measurements))
