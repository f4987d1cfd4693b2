"""Runs as they are read from their folders."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.cells import tables
from capsbench.reports.comparison import Comparison
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


def test_a_crash_among_images_of_any_number_of_labels_is_one_of_them(
    add_run: AddRun, crash: Callable[..., None], tmp_path: Path
) -> None:
    for seed in (1, 2, 3):
        told = {"test/exact_match": 0.8, "test/f1": 0.9, "test/map": 0.9}
        folder = add_run(tmp_path, "fm", seed, 0.8, metrics=told, history=[{"epoch": 1}], most_frequent_labels=0.2)
    crash(folder)
    (panel,) = Comparison.of(tmp_path, protocol).panels
    assert [condition.crashed for condition in panel.conditions] == [(3,)]


def test_crashes_on_data_that_no_run_finished_are_told(
    add_run: AddRun, crash: Callable[..., None], tmp_path: Path
) -> None:
    for seed, size in itertools.product((1, 2), (32, 512)):
        folder = add_run(tmp_path, "fm", seed, 0.8, settings={"seed": seed, "data": {"batch_size": size}, "router": {}})
        if size == 512:
            crash(folder)
    (table,) = tables(Comparison.of(tmp_path, protocol))
    assert "2 more crashed, on data of which no run finished; they are in no row." in table.caption
    assert "No run crashed" not in table.caption


def test_a_crash_is_as_long_as_its_limit_in_steps_and_epochs(
    add_run: AddRun, crash: Callable[..., None], tmp_path: Path
) -> None:
    for seed, limit in ((1, {"max_epochs": 4}), (2, {"max_steps": 25})):
        crash(add_run(tmp_path, "em", seed, 0.5, settings={"seed": seed, "data": {"seed": seed}, "trainer": limit}))
    add_run(tmp_path, "fm", 1, 0.9)
    lengths = {run.result.seed: (run.result.epochs, run.result.steps) for run in load_runs(tmp_path).crashed}
    assert lengths == {1: (4, 40), 2: (3, 25)}


def test_a_row_of_runs_on_different_files_says_so(add_run: AddRun, tmp_path: Path) -> None:
    for router, changed in (("fm", 2), ("em", 0)):
        for seed in (1, 2, 3):
            add_run(tmp_path, router, seed, 0.8, data_files={"digest": f"{seed if seed == changed else 0}"})
    (table,) = tables(Comparison.of(tmp_path, protocol))
    assert "1 of 2 rows average runs whose data files differ." in table.caption
