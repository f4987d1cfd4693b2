"""Runs sorted into what can be compared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.reports.comparison import load_runs, panels

AddRun = Callable[..., Path]


def test_a_line_per_router_the_best_first(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.90), (2, 0.92), (3, 0.97)):
        add_run(tmp_path, "fm", seed, accuracy)
    add_run(tmp_path, "em", 1, 0.95)
    (panel,) = panels(load_runs(tmp_path))
    assert panel.title == "digits / capsnet"
    assert {label: len(runs) for label, runs in panel.routers.items()} == {"em": 1, "fm": 3}
    assert list(panel.routers) == ["em", "fm"]


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "dynamic", 1, 0.9, iterations=1)
    add_run(tmp_path, "dynamic", 1, 0.8, iterations=3)
    add_run(tmp_path, "fm", 1, 0.7, loss="margin")
    add_run(tmp_path, "fm", 1, 0.6, loss="spread")
    (panel,) = panels(load_runs(tmp_path))
    assert list(panel.routers) == [
        "dynamic [loss=margin, router.iterations=1]",
        "dynamic [loss=margin, router.iterations=3]",
        "fm [loss=margin]",
        "fm [loss=spread]",
    ]


def test_smoke_runs_never_count(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, smoke=True)
    with pytest.raises(ValueError, match=r"no finished runs in .* \(1 smoke runs do not count\)"):
        load_runs(tmp_path)
    add_run(tmp_path, "fm", 2, 0.5)
    assert [run.result.seed for run in load_runs(tmp_path)] == [2]
