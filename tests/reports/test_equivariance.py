"""Equivariance of routers side by side: what is drawn is what was measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import LineCollection

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison, Panel
from capsbench.reports.equivariance import PREDICTORS, UNITS, equivariance_figure, equivariance_table
from capsbench.reports.figures import colors
from capsbench.runs import RunFolder

AddRun = Callable[..., Path]


def measured(value: float) -> dict[str, Any]:
    found = {"value": value, "low": value - 0.1, "high": value + 0.05}
    return {"equivariance": {name: dict.fromkeys(UNITS, found) for name in PREDICTORS}, "invariance": {}}


def panel_of(add_run: AddRun, root: Path, *values: float) -> Panel:
    for seed, value in enumerate(values):
        folder = add_run(root, "fm", seed, 0.9)
        RunFolder(folder).equivariance.write_text(json.dumps(measured(value)))
    (panel,) = Comparison.of(root, protocol).panels
    return panel


def test_a_negative_value_is_drawn_as_it_is(add_run: AddRun, tmp_path: Path) -> None:
    panel = panel_of(add_run, tmp_path, -0.3)
    (ax,) = equivariance_figure(panel, colors([panel])).axes
    bars = [patch.get_height() for patch in ax.patches]
    assert bars == [pytest.approx(-0.3)] * len(UNITS)
    whiskers = [path for one in ax.collections if isinstance(one, LineCollection) for path in one.get_segments()]
    assert [(path[0][1], path[1][1]) for path in whiskers] == [pytest.approx((-0.4, -0.25))] * len(UNITS)
    marks = [line.get_ydata()[0] for line in ax.lines if line.get_marker() in ("D", "^", "v")]
    assert marks == [pytest.approx(-0.3)] * 3 * len(UNITS)
    assert ax.get_ylim()[0] < -0.4


def test_an_interval_is_of_one_seeds_digits_or_of_the_mean_over_seeds(add_run: AddRun, tmp_path: Path) -> None:
    one = equivariance_table(panel_of(add_run, tmp_path / "one", 0.5))
    assert set(one["Shear"]) == {"0.50 [0.40, 0.55]"}
    three = equivariance_table(panel_of(add_run, tmp_path / "three", 0.4, 0.5, 0.6))
    assert set(three["Shear"]) == {"0.50 [0.25, 0.75]"}
