"""Runs sorted into what can be compared."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison, panels
from capsbench.reports.runs import load_runs

AddRun = Callable[..., Path]


def test_a_line_per_router_the_best_first(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.90), (2, 0.92), (3, 0.97)):
        add_run(tmp_path, "fm", seed, accuracy)
    add_run(tmp_path, "em", 1, 0.95)
    (panel,) = panels(load_runs(tmp_path).finished)
    assert panel.title == "digits / capsnet"
    assert {label: len(runs) for label, runs in panel.by_label.items()} == {"EM (3)": 1, "FM": 3}
    assert list(panel.by_label) == ["EM (3)", "FM"]


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "dynamic", 1, 0.9, iterations=1)
    add_run(tmp_path, "dynamic", 1, 0.8, iterations=3)
    add_run(tmp_path, "fm", 1, 0.7, loss="margin")
    add_run(tmp_path, "fm", 1, 0.6, loss="spread")
    (panel,) = panels(load_runs(tmp_path).finished)
    assert list(panel.by_label) == ["Dynamic (1)", "Dynamic (3)", "FM [loss=margin]", "FM [loss=spread]"]


def test_another_seed_of_the_data_alone_is_another_condition(add_run: AddRun, tmp_path: Path) -> None:
    for data_seed in (1, 7):
        settings = {"seed": 1, "data": {"seed": data_seed}, "router": {"iterations": 3}}
        add_run(tmp_path, "em", 1, 0.9, settings=settings)
    (panel,) = panels(load_runs(tmp_path).finished)
    assert [len(condition.runs) for condition in panel.conditions] == [1, 1]
    assert len(panel.by_label) == 2


def test_what_all_runs_share_can_be_left_to_a_caption(add_paper_run: AddRun, tmp_path: Path) -> None:
    cut = {"steps": 2000, "settings": {"optim.optimizer.lr": 0.002}}
    more = {"settings": {"optim.optimizer.lr": 0.002, "arch.vote_gain": 0.125}, "steps": 2000}
    add_paper_run(tmp_path, "table3", "fm", 1, 0.93, **cut)
    add_paper_run(tmp_path, "table3", "dynamic", 1, 0.92, **more)
    comparison = Comparison.of(tmp_path / "table3", protocol)
    assert comparison.shared == ("2,000 of 40,000 steps", "lr=0.002")
    assert [one.label for one in comparison.without_shared().conditions] == ["FM", "Dynamic (3) [vote_gain=0.125]"]


def test_a_routers_title_tells_its_iterations(add_run: AddRun, tmp_path: Path) -> None:
    for iterations in (3, 5):
        add_run(tmp_path, "em", 1, iterations / 10, iterations=iterations)
    (panel,) = panels(load_runs(tmp_path).finished)
    assert list(panel.by_label) == ["EM (5)", "EM (3)"]


@pytest.mark.parametrize("folder", ["table3", "table3_authors"])
def test_a_run_is_set_against_the_protocol_that_it_is_closest_to(
    add_paper_run: AddRun, tmp_path: Path, folder: str
) -> None:
    for experiment, router in (("table3", "fm"), ("table3_authors", "fm_squash")):
        add_paper_run(tmp_path, experiment, router, 1, 0.9, steps=4000, named=folder)
    comparison = Comparison.of(tmp_path / folder, protocol)
    found = [(panel.protocol, one.router, one.label) for panel in comparison.panels for one in panel.conditions]
    assert found == [
        ("table3", "fm", "FM [4,000 of 40,000 steps]"),
        ("table3_authors", "fm_squash", "FM [4,000 of 40,000 steps]"),
    ]


def test_the_papers_fm_under_the_authors_settings_is_named(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table3_authors", "fm", 1, 0.9)
    (condition,) = Comparison.of(tmp_path / "table3", protocol).conditions
    assert (condition.label, condition.as_in_paper) == ("FM [router=fm]", False)


GPU = {"kind": "gpu", "number": 1}


def test_no_row_mixes_kinds_or_numbers_of_devices(add_run: AddRun, tmp_path: Path) -> None:
    for seed, devices in enumerate((None, {"kind": "cpu", "number": 1}, GPU, {"kind": "gpu", "number": 2}), start=1):
        settings = {"seed": seed, "router": {"scale": 0.5}} | ({"devices": devices} if devices else {})
        add_run(tmp_path, "fm", seed, seed / 10, settings=settings)
    for seed, words in ((5, "NVIDIA H100 80GB HBM3"), (6, "cpu, 1 threads, AMD EPYC")):  # of an older version
        add_run(tmp_path, "fm", seed, seed / 10, settings={"seed": seed, "router": {"scale": 0.5}}, device=words)
    (panel,) = panels(load_runs(tmp_path).finished)
    assert {label: [run.result.seed for run in runs] for label, runs in panel.by_label.items()} == {
        "FM [devices.kind=gpu, devices.number=1]": [3, 5],
        "FM [devices.kind=gpu, devices.number=2]": [4],
        "FM [devices.kind=cpu]": [1, 2, 6],
    }


def test_devices_are_told_only_where_they_differ(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2):
        add_run(tmp_path, "fm", seed, 0.9, settings={"seed": seed, "devices": GPU})
    (panel,) = panels(load_runs(tmp_path).finished)
    assert [*panel.by_label] == ["FM"]


def test_devices_are_compared_with_the_baseline_on_the_same(add_run: AddRun, tmp_path: Path) -> None:
    for router, kind, seed in itertools.product(("fm", "em"), ("cpu", "gpu"), (1, 2)):
        settings = {"seed": seed, "router": {}, "devices": {"kind": kind, "number": 1}}
        add_run(tmp_path, router, seed, 0.9, settings=settings)
    (panel,) = panels(load_runs(tmp_path).finished)
    for condition in panel.conditions:
        baseline = panel.baseline_of(condition, "fm")
        assert baseline is not None
        assert baseline.settings["devices.kind"] == condition.settings["devices.kind"]


def test_the_papers_number_stands_beside_runs_on_any_kind_of_device(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, kind in ((1, "cpu"), (2, "gpu")):
        add_paper_run(tmp_path, "table3", "fm", seed, 0.9, settings={"devices.kind": kind})
    found = Comparison.of(tmp_path / "table3", protocol).conditions
    assert [(one.label, one.as_in_paper, len(one.runs)) for one in found] == [
        ("FM [devices.kind=cpu]", True, 1),
        ("FM [devices.kind=gpu]", True, 1),
    ]
