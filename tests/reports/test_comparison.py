"""Runs sorted into what can be compared."""

from collections.abc import Callable
from pathlib import Path

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison, panels
from capsbench.reports.runs import load_runs

AddRun = Callable[..., Path]


def test_a_line_per_router_the_best_first(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.90), (2, 0.92), (3, 0.97)):
        add_run(tmp_path, "fm", seed, accuracy)
    add_run(tmp_path, "em", 1, 0.95)
    (panel,) = panels(load_runs(tmp_path))
    assert panel.title == "digits / capsnet"
    assert {label: len(runs) for label, runs in panel.by_label.items()} == {"EM (3)": 1, "FM": 3}
    assert list(panel.by_label) == ["EM (3)", "FM"]


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "dynamic", 1, 0.9, iterations=1)
    add_run(tmp_path, "dynamic", 1, 0.8, iterations=3)
    add_run(tmp_path, "fm", 1, 0.7, loss="margin")
    add_run(tmp_path, "fm", 1, 0.6, loss="spread")
    (panel,) = panels(load_runs(tmp_path))
    assert list(panel.by_label) == [
        "Dynamic (1) [loss=margin]",
        "Dynamic (3) [loss=margin]",
        "FM [loss=margin]",
        "FM [loss=spread]",
    ]


def test_what_all_runs_share_can_be_left_to_a_caption(add_paper_run: AddRun, tmp_path: Path) -> None:
    cut = {"steps": 2000, "settings": {"optim.optimizer.lr": 0.001}}
    more = {"settings": {"optim.optimizer.lr": 0.001, "arch.vote_gain": 0.25}, "steps": 2000}
    add_paper_run(tmp_path, "table3", "fm", 1, 0.93, **cut)
    add_paper_run(tmp_path, "table3", "dynamic", 1, 0.92, **more)
    comparison = Comparison.of(tmp_path / "table3", protocol)
    assert comparison.shared == ("2,000 of 40,000 steps", "optim.optimizer.lr=0.001")
    assert [one.label for one in comparison.without_shared().conditions] == ["FM", "Dynamic (3) [arch.vote_gain=0.25]"]


def test_a_routers_title_tells_its_iterations(add_run: AddRun, tmp_path: Path) -> None:
    for iterations in (3, 5):
        add_run(tmp_path, "em", 1, iterations / 10, iterations=iterations)
    (panel,) = panels(load_runs(tmp_path))
    assert list(panel.by_label) == ["EM (5)", "EM (3)"]
