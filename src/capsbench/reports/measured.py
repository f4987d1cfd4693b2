"""What was measured of a finished run later: read from its folder, and checked before it is believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from capsbench.data.reading import Name, checked, read_json
from capsbench.runs import Result
from capsbench.runs.measures import main_metric

UNITS = {
    "rotation": "Rotation °",
    "shear": "Shear",
    "scale_x": "Scale x",
    "scale_y": "Scale y",
    "shift_x": "Shift x, px",
    "shift_y": "Shift y, px",
}
PAIRS = "pairs of one digit"
"""What `measure` says in equivariance.json; older files lack it and are of single digits."""
PREDICTORS = {
    "pose": "pose, one map for all classes",
    "pose per class": "pose, one map per class",
    "moments": "image moments, one map per class (ceiling)",
    "features": "features (reference)",
    "activations": "activations (reference)",
}
OF_SINGLE_DIGITS = {
    "pose": "winning pose, one map for all classes",
    "pose per class": "winning pose, one map per class",
    "features": "features (upper reference)",
    "activations": "activations (lower reference)",
}
STRICT = ConfigDict(strict=True)  # other fields are not shown
Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Evaluated:
    """The part of evaluation-SPLIT.json that reports show."""

    __pydantic_config__ = STRICT

    metrics: Mapping[Name, Finite]
    identity: str | None = None


@dataclass(frozen=True)
class RSquared:
    """An R² with its interval, and of how many digits it is."""

    __pydantic_config__ = STRICT

    value: Annotated[Finite, Field(le=1)]
    low: Finite
    high: Finite
    digits: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class Curve:
    """See `capsbench.analysis.invariance.Curve`; the change is not finite where no capsule was active."""

    __pydantic_config__ = STRICT

    values: Sequence[Finite]
    accuracy: Sequence[Share]
    activation_change: Sequence[float]
    accuracy_area: Share
    change_area: float


@dataclass(frozen=True)
class Equivariance:
    """What equivariance.json holds."""

    __pydantic_config__ = STRICT

    equivariance: Mapping[Name, Mapping[Name, RSquared]]
    invariance: Mapping[Name, Curve]
    measure: str | None = None


def read_tested(path: Path, result: Result) -> float:
    """Read the test accuracy, or exact match, that `capsbench evaluate` measured of a run, a share of 1.

    Raises:
        FileNotFoundError: it was not measured.
        ValueError: the file holds something else, or is of another run.
    """
    found = checked(Evaluated, read_json(path))
    metric = main_metric(found.metrics, ("test",))
    accuracy = found.metrics.get(metric)
    if accuracy is None or not 0 <= accuracy <= 1:
        raise ValueError(f"metrics.{metric} must be from 0 to 1, got {accuracy}")
    if found.identity not in (None, result.identity):
        raise ValueError(f"it is of the run {found.identity}, not of {result.identity}")
    return float(accuracy)


def read_equivariance(path: Path) -> Mapping[str, Any]:
    """Read what `capsbench analyze equivariance` measured of a run.

    Raises:
        FileNotFoundError: it was not measured.
        ValueError: the file holds something else.
    """
    record = read_json(path)
    found = checked(Equivariance, record)
    missing = predictors(record).keys() - found.equivariance.keys() or UNITS.keys() - found.invariance.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for name, curve in found.invariance.items():
        if not len(curve.values) == len(curve.accuracy) == len(curve.activation_change):
            raise ValueError(f"the lists of invariance.{name} must be of one length")
    if of_pairs(record) and any(r2.digits is None for each in found.equivariance.values() for r2 in each.values()):
        raise ValueError("it lacks the number of digits of an R²")
    return record


def of_pairs(measured: Mapping[str, Any]) -> bool:
    """Tell whether R² is of pairs of one digit."""
    return measured.get("measure") == PAIRS


def predictors(measured: Mapping[str, Any]) -> Mapping[str, str]:
    """Name what R² was measured from, with its title."""
    return PREDICTORS if of_pairs(measured) else OF_SINGLE_DIGITS
