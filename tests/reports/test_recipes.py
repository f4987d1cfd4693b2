"""Table 2 as published: every system beside the paper's number, and how its recipe departs."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from capsbench.launch.protocols import departures, protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.recipes import as_published, systems_of, write_as_published

AddRun = Callable[..., Path]
DIFFERS = "Runs differ from the recipe in"


def table_of(outputs: Path, *experiments: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = {name: Comparison.of(outputs / name, protocol) for name in experiments}
    systems, told = as_published("table2", found, departures)
    return systems.frame, told.frame


def row(frame: pd.DataFrame, system: str, data: str) -> dict[str, str]:
    (found,) = frame[(frame["System"] == system) & (frame["Data"] == data)].to_dict("records")
    return found


def test_each_system_stands_beside_the_papers_number(tmp_path: Path, add_paper_run: AddRun) -> None:
    add_paper_run(tmp_path, "table2", "fm", 1, 0.94, data="Fashion-MNIST")
    for seed, accuracy in ((1, 0.87), (2, 0.88)):
        add_paper_run(tmp_path, "table2_sabour", "dynamic", seed, accuracy)
    frame, told = table_of(tmp_path, "table2", "table2_sabour")
    sabour = row(frame, "Sabour et al.", "CIFAR-10")
    assert (sabour["Paper %"], sabour["n"], DIFFERS in frame) == ("89.40", "2", False)
    assert sabour["Ours %"].startswith("87.50 [")
    assert sabour["Ours %"].endswith(" (1 of 3 seeds missing)")
    fm = row(frame, "FM", "Fashion-MNIST")
    assert (fm["Paper %"], fm["Ours %"]) == ("94.70 ± 0.17", "94.00 (2 of 3 seeds missing)")
    nobody_ran = row(frame, "DeepCaps", "SVHN")
    assert (nobody_ran["Paper %"], nobody_ran["Ours %"], nobody_ran["Theirs"]) == (
        *("97.16", "– (3 seeds missing)", "7.22M"),
    )
    assert len(frame) == 13 + 3, "the paper's numbers"
    assert list(frame["Data"].unique()) == ["Fashion-MNIST", "CIFAR-10", "SVHN"]
    assert set(told["System"]) == {"Sabour et al.", "Hinton et al.", "Nair et al.", "HitNet", "DeepCaps"}
    assert told.loc[told["Data"] == "CIFAR-10", "Departs in"].iloc[0].startswith("one network, not seven")


def test_what_is_no_repetition_names_how_it_differs(tmp_path: Path, add_paper_run: AddRun) -> None:
    changes = {"settings": {"data.resize": None}, "epochs": 2, "train_examples": 5_000, "full": False}
    add_paper_run(tmp_path, "table2_deepcaps", "dynamic", 1, 0.7, data="CIFAR-10", **changes)
    frame, _ = table_of(tmp_path, "table2_deepcaps")
    ours = frame[(frame["System"] == "DeepCaps") & (frame["n"] == "1")].iloc[0]
    assert (ours["Paper %"], ours["Ours %"]) == ("–", "70.00")
    assert ours[DIFFERS] == "5,000 training images, 2 of 100 epochs, resize=null"
    paper = frame[(frame["System"] == "DeepCaps") & (frame["Data"] == "CIFAR-10") & (frame["Paper %"] == "91.01")]
    assert list(paper["Ours %"]) == ["– (3 seeds missing)"]


def test_smoke_runs_are_marked_and_have_no_numbers_beside_them(tmp_path: Path, add_paper_run: AddRun) -> None:
    add_paper_run(tmp_path, "table2_hitnet", "hit_or_miss", 1, 0.1, smoke=True, full=False)
    found = {"table2_hitnet": Comparison.of(tmp_path / "table2_hitnet", protocol)}
    shown = as_published("table2", found, departures)
    assert shown[0].caption.startswith("Smoke runs: ")
    hitnet = shown[0].frame[shown[0].frame["System"] == "HitNet"]
    assert list(hitnet["Ours %"]) == ["10.00"]
    write_as_published("Table 2", shown, tmp_path / "report")
    assert "Departs in" in (tmp_path / "report" / "table.md").read_text()


def test_tables_without_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is for a table with recipes of other systems: table2; got table3"):
        systems_of("table3")
