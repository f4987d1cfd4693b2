"""Systems side by side: equal epochs, equal time, and learning rates that were chosen on a validation split."""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from capsbench.benchmarks.measure import Measurement
from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.costs import costs_table
from capsbench.reports.html import write_page
from capsbench.reports.readme import filled
from capsbench.reports.system_tables import system_tables, write_systems

Add = Callable[..., Path]


@pytest.fixture
def add(add_run: Add, tmp_path: Path) -> Add:
    """Write a run of two epochs of 100 steps: add(arch, router, seed, accuracy, rate=0.001, val_fraction=0.0)."""

    def write(
        arch: str,
        router: str,
        seed: int,
        accuracy: float,
        rate: float = 0.001,
        val_fraction: float = 0.0,
        root: str = "systems",
    ) -> Path:
        split = "val" if val_fraction else "test"
        settings = {
            "seed": seed,
            "data": {"seed": seed, "batch_size": 128, "val_fraction": val_fraction},
            "router": {},
            "loss": {},
            "optim": {"optimizer": {"lr": rate}},
        }
        history = [
            {"epoch": 1, "step": 100, f"{split}/accuracy": accuracy - 0.1},
            {"epoch": 2, "step": 200, f"{split}/accuracy": accuracy},
        ]
        told = {
            "choices": {"loss": "margin", "router": router, "arch": arch},
            "metrics": {f"{split}/accuracy": accuracy},
        }
        return add_run(
            tmp_path / root,
            router,
            seed,
            accuracy,
            arch=arch,
            settings=settings,
            history=history,
            epochs=2,
            steps=200,
            **told,
        )

    return write


@pytest.fixture
def step_times(tmp_path: Path) -> Callable[..., None]:
    """Write the benchmark's file: step_times({("resnet", "none"): 10.0}, batch_size=128)."""

    def write(milliseconds: dict[tuple[str, str], float], batch_size: int = 128) -> None:
        measured = [
            Measurement.of([value], f"{arch}, digits", quantity, unit, router=router)
            for (arch, router), value in milliseconds.items()
            for quantity, unit in (("training step", "ms"), ("parameters", "parameters"))
        ]
        record = {
            "measurements": [asdict(one) for one in measured],
            "settings": {"repetitions": 5, "batch": batch_size},
            "devices": ["cpu"],
            "load": {"before": 0.5, "after": 0.6, "cores": 2},
        }
        (tmp_path / "benchmarks").mkdir()
        (tmp_path / "benchmarks" / "systems.json").write_text(json.dumps(record))

    return write


def shown(root: Path) -> tuple[pd.DataFrame, str]:
    table, *_ = system_tables(Comparison.of(root, protocol))
    return table.frame.set_index(["Network", "Router"]), table.caption


@pytest.fixture
def two(add: Add, tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        add("resnet", "none", seed, 0.90 + seed / 100)
        add("capsnet", "fm", seed, 0.80 + seed / 100)
        add("capsnet", "dynamic1", seed, 0.70)
    return tmp_path / "systems"


def test_networks_stand_in_one_table_the_best_first(two: Path) -> None:
    frame, caption = shown(two)
    assert frame.index.tolist() == [("resnet", "none"), ("capsnet", "FM"), ("capsnet", "Dynamic (1)")]
    assert frame.loc[("resnet", "none"), "Test accuracy %"] == "92.00 [89.52, 94.48]"
    assert (frame["n"] == "3").all()
    assert "There are no times; capsbench benchmark systems measures them." in caption
    assert not [name for name in frame if name.startswith("After")]


def test_the_control_of_a_router_is_the_same_network_without_agreement(two: Path) -> None:
    frame, _ = shown(two)
    assert frame["Difference from Dynamic (1)"].tolist() == ["–", "+12.00 [+9.52, +14.48]", "–"]
    assert frame["Verdict"].tolist() == ["–", "better", "–"]


def test_accuracy_after_equal_time(two: Path, step_times: Callable[..., None]) -> None:
    step_times({("resnet", "none"): 10.0, ("capsnet", "fm"): 20.0, ("capsnet", "dynamic1"): 25.0})
    frame, caption = shown(two)
    # ResNet's 200 steps take 2 s; then FM has ended one epoch, and Dynamic (1) none.
    assert frame["After 2 s %"].tolist() == ["92.00 [89.52, 94.48]", "72.00 [69.52, 74.48]", "–"]
    assert frame["Training, s"].tolist() == ["2", "4", "5"]
    assert "–: no epoch ends by then" in caption


def test_a_step_of_another_batch_tells_no_time(two: Path, step_times: Callable[..., None]) -> None:
    step_times({("resnet", "none"): 10.0}, batch_size=64)
    frame, _ = shown(two)
    assert not [name for name in frame if name.startswith(("After", "Training"))]


def test_a_system_that_crashed_is_told(two: Path, add: Add, crash: Callable[..., None]) -> None:
    crash(add("hitnet", "hit_or_miss", 1, 0.5))
    frame, _ = shown(two)
    row = frame.loc[("hitnet", "Hit-or-miss")]
    assert (row["n"], row["Crashed"], row["Test accuracy %"]) == ("0", "1 of 1", "–")
    assert frame.loc[("resnet", "none"), "Crashed"] == "0 of 3"


def test_one_network_is_no_comparison_of_systems(add: Add, tmp_path: Path) -> None:
    add("capsnet", "fm", 1, 0.8)
    add("capsnet", "em", 1, 0.7)
    assert system_tables(Comparison.of(tmp_path / "systems", protocol)) == []


def test_a_rate_is_chosen_by_validation_accuracy(add: Add, tmp_path: Path) -> None:
    rates = {0.0003: (0.6, 0.7), 0.001: (0.7, 0.8), 0.003: (0.7, 0.8), 0.01: (0.99,)}
    for rate, accuracies in rates.items():
        for seed, accuracy in enumerate(accuracies):
            add("capsnet", "fm", seed, accuracy, rate, 0.1, "systems_rates")
    add("hitnet", "hit_or_miss", 0, 0.5, 0.003, 0.1, "systems_rates")
    add("hitnet", "hit_or_miss", 0, 0.4, 0.001, 0.1, "systems_rates")
    frame, caption = shown(tmp_path / "systems_rates")
    assert frame["Best rate"].tolist() == ["0.001", "0.003"], "of equal ones the smaller; one seed less does not count"
    assert frame.loc[("capsnet", "FM"), "Rate 0.0003"] == "65.00 [1.47, 100.00]"
    assert caption.startswith("Validation accuracy % after the last epoch, on 10% of the training images")


def test_a_rate_that_was_not_chosen_is_told(two: Path, add: Add) -> None:
    for arch, router, best in (("capsnet", "fm", 0.003), ("capsnet", "dynamic1", 0.001)):
        for rate in (0.001, 0.003):
            add(arch, router, 1, 0.8 if rate == best else 0.7, rate, 0.1, "systems_rates")
    _, caption = shown(two)
    assert (
        "Each rate is the best of those that systems_rates tried on a validation split, but for resnet with none, "
        "capsnet with FM, which it did not try or found worse." in caption
    )


def test_it_is_written_beside_the_runs_and_into_pages(two: Path, step_times: Callable[..., None]) -> None:
    step_times({("resnet", "none"): 10.0, ("capsnet", "fm"): 20.0})
    comparison, report = Comparison.of(two, protocol), two / "report"
    report.mkdir()
    write_systems(comparison, report)
    assert {path.name for path in report.glob("systems*")} == {
        f"systems.{e}" for e in ("md", "tex", "csv", "svg", "png")
    }
    numbers = pd.read_csv(report / "systems.csv").set_index(["network", "router"])
    assert numbers.loc[("capsnet", "FM"), ["mean", "after", "after_s"]].tolist() == pytest.approx([82.0, 72.0, 2.0])
    write_page(two / "report.html", "systems", [comparison], interactive=False)
    assert "After 2 s %" in (two / "report.html").read_text()
    marked = filled("<!-- table: systems/systems -->\n<!-- end -->", two.parent, protocol)
    assert "| resnet " in marked
    assert "Multiply-adds are those of convolutions" in marked


def test_what_a_system_costs_stands_beside_what_its_paper_says() -> None:
    def measured(value: float, quantity: str, unit: str, arch: str, router: str) -> dict[str, Any]:
        return asdict(Measurement.of([value], f"{arch}, fashion_mnist", quantity, unit, router=router))

    table = costs_table(
        [
            measured(161_824.0, "parameters", "parameters", "efficient_capsnet", "attention"),
            measured(30.08, "multiply-adds", "M", "efficient_capsnet", "attention"),
            measured(0.00256, "votes", "M", "efficient_capsnet", "attention"),
            measured(161_664.0, "parameters", "parameters", "efficient_capsnet", "dynamic1"),
        ]
    ).set_index("Router")
    assert table.loc["Self-attention"].tolist() == ["efficient_capsnet", "161,824", "161K (28×28×1)", "30.1", "2,560"]
    assert table.loc["Dynamic (1)"].tolist() == ["efficient_capsnet", "161,664", "–", "–", "–"], "theirs has a router"


def test_rates_of_one_network_are_written_alone(add: Add, tmp_path: Path) -> None:
    for rate in (0.001, 0.003):
        add("capsnet", "fm", 1, 0.6 + rate, rate, 0.1)
    write_systems(Comparison.of(tmp_path / "systems", protocol), tmp_path)
    assert pd.read_csv(tmp_path / "systems.csv")["Best rate"].tolist() == [0.003]


def test_no_rate_is_chosen_where_more_than_rates_vary(add_run: Add, tmp_path: Path) -> None:
    for loss, rate in itertools.product(("margin", "spread"), (0.001, 0.003)):
        settings = {"seed": 1, "data": {"val_split": True}, "loss": {loss: 1}, "optim": {"optimizer": {"lr": rate}}}
        metrics = {"val/accuracy": 0.8}
        add_run(tmp_path / loss, "fm", 1, 0.8, settings=settings, metrics=metrics)
        add_run(tmp_path / "both", "fm", 1, 0.8, settings=settings, metrics=metrics)
    _, caption = shown(tmp_path / "margin")
    assert caption.startswith("Validation accuracy % after the last epoch, on the validation split, by learning rate")
    assert not system_tables(Comparison.of(tmp_path / "both", protocol))


def test_a_control_was_trained_as_long(add_run: Add, tmp_path: Path) -> None:
    for seed, (arch, router, epochs, accuracy) in itertools.product(
        (1, 2, 3),
        (
            ("capsnet", "fm", 30, 0.9),
            ("capsnet", "fm", 1, 0.6),
            ("capsnet", "dynamic1", 1, 0.7),
            ("hitnet", "fm", 1, 0.5),
        ),
    ):
        settings = {"seed": seed, "data": {"seed": seed}, "router": {}, "trainer": {"max_epochs": epochs}}
        add_run(tmp_path, router, seed, accuracy + seed / 100, arch=arch, settings=settings, epochs=epochs)
    frame = shown(tmp_path)[0].reset_index()
    compared = frame[frame["Difference from Dynamic (1)"] != "–"]
    assert compared[["Network", "Router", "Difference from Dynamic (1)"]].to_numpy().tolist() == [
        ["capsnet", "FM", "−10.00 [−10.00, −10.00]"]
    ]
