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
    assert [run.result.seed for run in load_runs(tmp_path)] == [1]
    add_run(tmp_path, "fm", 2, 0.5)
    assert [run.result.seed for run in load_runs(tmp_path)] == [2]


def test_an_epoch_cut_short_has_the_test_accuracy_of_the_end(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, history=[{"epoch": 1, "step": 5, "train/accuracy": 0.5}])
    add_run(tmp_path, "em", 1, 0.8, history=[{"epoch": 1, "test/accuracy": 0.7}, {"epoch": 2, "train/accuracy": 0.6}])
    em, fm = (run.curves() for run in load_runs(tmp_path))
    assert fm.to_dict("list") == {"train/accuracy": [0.5], "test/accuracy": [0.9]}
    assert em["test/accuracy"].tolist() == [0.7, 0.8]
    assert em["train/accuracy"].isna().tolist() == [True, False]
