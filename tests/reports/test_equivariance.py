"""Equivariance of routers side by side, measured by this version or by an older one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import LineCollection

from capsbench.reports.comparison import Panel, panels
from capsbench.reports.equivariance import equivariance_figure, equivariance_table
from capsbench.reports.measured import OF_SINGLE_DIGITS, PAIRS, PREDICTORS, UNITS
from capsbench.reports.runs import load_runs

AddRun = Callable[..., Path]
CURVE = {"values": [0], "accuracy": [0.9], "activation_change": [0.0], "accuracy_area": 0.9, "change_area": 0.0}
CURVES = dict.fromkeys(UNITS, CURVE)


def older(value: float) -> dict[str, Any]:
    """What an older version wrote of single digits."""
    r2 = {parameter: {"value": value, "low": value - 0.1, "high": value + 0.1} for parameter in UNITS}
    return {"equivariance": dict.fromkeys(OF_SINGLE_DIGITS, r2), "invariance": CURVES}


def of_pairs(value: float) -> dict[str, Any]:
    r2 = {parameter: {"value": value, "low": value - 0.1, "high": value + 0.2, "digits": 250} for parameter in UNITS}
    return {"measure": PAIRS, "equivariance": dict.fromkeys(PREDICTORS, r2), "invariance": CURVES}


def panel(add_run: AddRun, root: Path, *measured: tuple[str, int, dict[str, Any]]) -> Panel:
    for router, seed, content in measured:
        folder = add_run(root / "try", router, seed, 0.9)
        (folder / "equivariance.json").write_text(json.dumps(content))
    (found,) = panels(load_runs(root / "try").finished)
    return found


def test_an_interval_is_of_digits_and_of_seeds(add_run: AddRun, tmp_path: Path) -> None:
    seeds = [("fm", seed, of_pairs(value)) for seed, value in enumerate((0.4, 0.5, 0.6))]
    table = equivariance_table(panel(add_run, tmp_path, *seeds, ("em", 1, of_pairs(0.2)))).set_index(["Router", "From"])
    fm = table.loc[("FM", "pose, one map per class")]
    assert (fm["Seeds"], fm["Digits"], fm["Rotation °"]) == ("3", "250", "0.50 [0.25, 0.75]")
    ceiling = table.loc[("EM (3)", "image moments, one map per class (ceiling)")]
    assert (ceiling["Seeds"], ceiling["Shear"]) == ("1", "0.20 [0.10, 0.40]")
    assert len(table) == 2 * len(PREDICTORS)


def test_where_seeds_are_alike_the_interval_is_that_of_their_digits(add_run: AddRun, tmp_path: Path) -> None:
    found = panel(add_run, tmp_path, *[("fm", seed, of_pairs(0.5)) for seed in (1, 2, 3)])
    assert set(equivariance_table(found)["Shear"]) == {"0.50 [0.40, 0.70]"}


def test_a_negative_value_is_drawn_as_it_is(add_run: AddRun, tmp_path: Path) -> None:
    (axes,) = equivariance_figure(panel(add_run, tmp_path, ("fm", 1, of_pairs(-0.3))), {"FM": "C0"}).axes
    assert [bar.get_height() for bar in axes.patches] == [pytest.approx(-0.3)] * len(UNITS)
    whiskers = [path for one in axes.collections if isinstance(one, LineCollection) for path in one.get_segments()]
    assert [(path[0][1], path[1][1]) for path in whiskers] == [pytest.approx((-0.4, -0.1))] * len(UNITS)
    marks = [line.get_ydata()[0] for line in axes.lines if line.get_marker() in ("D", "s", "^", "v")]
    assert marks == [pytest.approx(-0.3)] * 4 * len(UNITS)
    assert axes.get_ylim()[0] < -0.4


def test_an_older_measure_is_read_under_its_own_names(add_run: AddRun, tmp_path: Path) -> None:
    table = equivariance_table(panel(add_run, tmp_path, ("fm", 1, older(0.4))))
    assert table["From"].tolist() == list(OF_SINGLE_DIGITS.values())
    assert "Digits" not in table
    assert table["Scale x"].iloc[0] == "0.40 [0.30, 0.50]"


def test_two_measures_are_not_averaged(add_run: AddRun, tmp_path: Path) -> None:
    found = panel(add_run, tmp_path, ("fm", 1, of_pairs(0.5)), ("fm", 2, older(0.1)), ("em", 1, older(0.1)))
    table = equivariance_table(found)
    pose = table[table["From"] == "pose, one map per class"]
    assert pose[["Router", "Seeds", "Shift x, px"]].to_numpy().tolist() == [["FM", "1", "0.50 [0.40, 0.70]"]]
    again = table[table["From"].str.contains("older version")]
    assert dict(zip(again["Router"], again["Seeds"], strict=True)) == {"FM": "1", "EM (3)": "1"}
    assert set(again["Shear"]) == {"–"}
    (axes,) = equivariance_figure(found, {"FM": "C0", "EM (3)": "C1"}).axes
    assert [bar.get_height() for bar in axes.patches] == [0.5] * len(UNITS), "the older measure is not drawn beside it"


@pytest.mark.parametrize("content", [older(0.4), of_pairs(0.4)], ids=["single digits", "pairs"])
def test_either_measure_is_drawn(add_run: AddRun, tmp_path: Path, content: dict[str, Any]) -> None:
    figure = equivariance_figure(panel(add_run, tmp_path, ("fm", 1, content)), {"FM": "C0"})
    (axes,) = figure.axes
    bars = [patch.get_height() for patch in axes.patches]
    assert bars == pytest.approx([0.4] * len(UNITS))
