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


def test_an_epoch_cut_short_has_the_test_accuracy_of_the_end(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, history=[{"epoch": 1, "step": 5, "train/accuracy": 0.5}])
    add_run(tmp_path, "em", 1, 0.8, history=[{"epoch": 1, "test/accuracy": 0.7}, {"epoch": 2, "train/accuracy": 0.6}])
    em, fm = (run.curves() for run in load_runs(tmp_path))
    assert fm.to_dict("list") == {"train/accuracy": [0.5], "test/accuracy": [0.9]}
    assert em["test/accuracy"].tolist() == [0.7, 0.8]
    assert em["train/accuracy"].isna().tolist() == [True, False]
