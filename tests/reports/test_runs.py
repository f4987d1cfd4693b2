"""Runs as they are read from their folders."""

from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.reports.runs import load_runs

AddRun = Callable[..., Path]


def test_smoke_runs_count_only_by_themselves(add_run: AddRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no finished runs in .*; make some with: capsbench train"):
        load_runs(tmp_path)
    add_run(tmp_path, "fm", 1, 0.9, smoke=True)
    assert [run.result.seed for run in load_runs(tmp_path).finished] == [1]
    add_run(tmp_path, "fm", 2, 0.5)
    assert [run.result.seed for run in load_runs(tmp_path).finished] == [2]


def test_a_smoke_run_that_crashed_counts_only_among_smoke_runs(
    add_run: AddRun, crash: Callable[..., None], tmp_path: Path
) -> None:
    settings = {"seed": 1, "data": {"seed": 1}, "trainer": {"limit_train_batches": 2}}
    for root in (tmp_path / "smoke", tmp_path / "real"):
        crash(add_run(root, "em", 1, 0.5, settings=settings, smoke=True))
        add_run(root, "fm", 1, 0.9, smoke=root.name == "smoke")
        counted = len(load_runs(root).crashed)
        assert counted == (root.name == "smoke")


def test_an_epoch_cut_short_has_the_test_accuracy_of_the_end(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, history=[{"epoch": 1, "step": 5, "train/accuracy": 0.5}])
    add_run(tmp_path, "em", 1, 0.8, history=[{"epoch": 1, "test/accuracy": 0.7}, {"epoch": 2, "train/accuracy": 0.6}])
    em, fm = (run.curves() for run in load_runs(tmp_path).finished)
    assert fm.to_dict("list") == {"train/accuracy": [0.5], "test/accuracy": [0.9]}
    assert em["test/accuracy"].tolist() == [0.7, 0.8]
    assert em["train/accuracy"].isna().tolist() == [True, False]
