"""Main effects as tables."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison, Panel
from capsbench.reports.effect_tables import effect_tables, effects, write_effects
from capsbench.runs import RunFolder

AddRun = Callable[..., Path]


@pytest.fixture
def panel(add_run: AddRun, crash: Callable[..., None], tmp_path: Path) -> Panel:
    """2 x 2 x 3 runs of two routers; EM crashes once and does not learn at the kernel's start."""
    lost = []
    for router, gain, start, seed in itertools.product(("fm", "em"), (0.5, 1.0), ("pair", "kernel"), (1, 2, 3)):
        settings = {"seed": seed, "arch": {"vote_gain": gain, "start": start}}
        accuracy = 0.1 if (router, start) == ("em", "kernel") else 0.8 + gain / 10 + seed / 100
        folder = add_run(tmp_path / "f", router, seed, accuracy, settings=settings | {"trainer": {"max_epochs": 1}})
        lost += [folder] * ((router, gain, start, seed) == ("em", 0.5, "pair", 1))
    for folder in lost:
        crash(folder)
    (panel,) = Comparison.of(tmp_path / "f", protocol).panels
    return panel


def test_each_level_has_its_mean_interval_and_failures(panel: Panel) -> None:
    main, by_router = (table.frame for table in effect_tables(panel))
    rows = main.set_index(["Setting", "Level"]).T.to_dict()
    assert [*rows] == [
        ("router", "FM"),
        ("router", "EM (3)"),
        ("arch.start", "kernel"),
        ("arch.start", "pair"),
        ("vote_gain", "0.5"),
        ("vote_gain", "1.0"),
    ]
    assert rows["vote_gain", "0.5"]["Failed"] == "4 of 12", "one crashed, three did not learn"
    assert rows["vote_gain", "1.0"] == {
        "Test accuracy %": "64.67 [63.01, 66.32]",
        "Seeds": "3",
        "Combinations": "3",
        "Failed": "3 of 12",
        "Compared with": "0.5",
        "Difference": "+3.33 [+3.33, +3.33]",
        "p (Holm)": "< 0.001",
        "Verdict": "better",
    }
    cells = by_router.set_index(["Setting", "Level"]).T.to_dict()
    assert cells["arch.start", "kernel"]["EM (3)"] == "10.00 [10.00, 10.00] (6 of 6 failed)"
    assert cells["arch.start", "pair"]["FM"] == "89.50 [87.02, 91.98]"


def test_levels_are_tested_seed_by_seed_against_one_of_their_setting(panel: Panel) -> None:
    main = effect_tables(panel)[0]
    rows = main.frame.set_index(["Setting", "Level"])
    assert rows.loc[("router", "FM"), "Verdict"] == rows.loc[("vote_gain", "0.5"), "Verdict"] == "–"
    assert rows.loc[("router", "EM (3)"), "Compared with"] == "FM"
    assert rows.loc[("router", "EM (3)"), "Verdict"] == "worse"
    assert "adjusted by Holm for 3 tests" in main.caption


def test_the_baseline_is_what_other_routers_are_compared_with(panel: Panel) -> None:
    rows = effects(panel, baseline="em").set_index(["router", "factor", "level"])
    of_routers = rows.xs("router", level="factor")
    assert of_routers["compared_with"].dropna().tolist() == ["EM (3)"]
    assert of_routers["difference"].dropna().gt(0).all(), "FM against EM"


def test_numbers_for_machines(panel: Panel) -> None:
    found = effects(panel).set_index(["router", "factor", "level"])
    assert found.loc[("FM", "vote_gain", "1.0"), "mean"] == pytest.approx(92)
    assert found.loc[("EM (3)", "vote_gain", "0.5"), ["failed", "runs"]].tolist() == [4, 6]


def test_files_are_there_while_two_settings_vary(panel: Panel, add_run: AddRun, tmp_path: Path) -> None:
    write_effects([panel], tmp_path)
    assert "| vote_gain " in (tmp_path / "effects.md").read_text()
    assert r"vote\_gain" in (tmp_path / "effects.tex").read_text()
    assert len(pd.read_csv(tmp_path / "effects.csv")) == 6 + 2 * 4
    add_run(tmp_path / "one", "fm", 1, 0.9)
    write_effects(Comparison.of(tmp_path / "one", protocol).panels, tmp_path)
    assert not list(tmp_path.glob("effects.*"))


def test_a_long_sweep_is_told_by_its_effects_and_a_few_of_the_runs_that_are_left_out(
    capsbench: Callable[..., None], capsys: pytest.CaptureFixture[str], add_run: AddRun
) -> None:
    runs = []
    for gain, width, seed in itertools.product(range(8), range(4), (1, 2)):
        settings = {"seed": seed, "arch": {"vote_gain": gain, "width": width}}
        runs.append(add_run(Path("outputs/sweep"), "fm", seed, 0.5 + gain / 100, settings=settings))
    runs.sort()
    for folder in runs[:5]:
        (folder / "result.json").unlink()
        (folder / "config.yaml").write_text("{}")
    with RunFolder(runs[0]).locked():
        capsbench("report", "experiment=sweep")
    printed = capsys.readouterr().out
    assert "combinations of the other settings" in " ".join(printed.split())
    assert "No run crashed" not in printed, "that is the caption of 32 rows"
    assert f"left out: {runs[0]} is still training\n" in printed
    assert printed.count("left out: ") == 3
    assert "\nand 2 more\nTables of all runs, effects of settings: outputs/sweep/report.html" in printed
    assert "crashed:" not in printed
