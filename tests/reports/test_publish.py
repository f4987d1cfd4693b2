"""Reports beside the runs, and results that are committed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports import publish as publishing
from capsbench.reports.comparison import Comparison, family
from capsbench.reports.effect_tables import write_effects
from capsbench.reports.publish import experiments, publish, write_report, write_table
from capsbench.reports.records import numbers

AddRun = Callable[..., Path]
ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "outputs" / "published"


@pytest.fixture
def outputs(add_paper_run: AddRun, tmp_path: Path) -> Path:
    for seed, accuracy in ((1, 0.93), (2, 0.94), (3, 0.935)):
        folder = add_paper_run(tmp_path, "table3", "fm", seed, accuracy)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"large")
    return tmp_path


def test_the_report_beside_the_runs(outputs: Path) -> None:
    write_report(Comparison.of(outputs / "table3", protocol), outputs / "table3")
    files = {path.name for path in (outputs / "table3" / "report").iterdir()}
    assert files == {"table.md", "table.tex", "table.csv", "curves.svg", "curves.png"}
    assert (outputs / "table3" / "report.html").is_file()


def test_what_is_small_is_published_with_the_report_on_it(outputs: Path) -> None:
    root = outputs / "table3"
    published = publish(Comparison.of(root, protocol), outputs, protocol)
    assert published == outputs / "published" / "table3"
    assert len(list(published.rglob("result.json"))) == 3
    assert not list(published.rglob("*.ckpt"))
    write_report(Comparison.of(root, protocol), root)
    for name in ("table.md", "table.tex", "table.csv", "curves.svg"):
        assert (published / "report" / name).read_bytes() == (root / "report" / name).read_bytes()
    assert "<script" not in (published / "report.html").read_text()
    assert experiments(outputs) == ["table3"], "what is published is no experiment of its own"


def test_runs_of_several_machines_come_together(outputs: Path, add_paper_run: AddRun) -> None:
    root = outputs / "table3"
    publish(Comparison.of(root, protocol), outputs, protocol)
    shutil.rmtree(root)
    add_paper_run(outputs, "table3", "em", 1, 0.8)
    publish(Comparison.of(root, protocol), outputs, protocol)
    assert len(list((outputs / "published").rglob("result.json"))) == 4


def test_both_protocols_are_published_each_in_its_folder(outputs: Path, add_paper_run: AddRun) -> None:
    add_paper_run(outputs, "table3_authors", "fm_squash", 1, 0.8)
    publish(Comparison.of(outputs / "table3", protocol), outputs, protocol)
    published = outputs / "published"
    assert len(list((published / "table3").rglob("result.json"))) == 3
    assert len(list((published / "table3_authors").rglob("result.json"))) == 1
    assert "authors' protocol" in (published / "table3" / "report" / "table.md").read_text()
    assert experiments(outputs) == ["table3"]


def test_a_failed_run_is_published_until_it_succeeds(outputs: Path, crash: Callable[..., None]) -> None:
    root = outputs / "table3"
    first = next(root.rglob("result.json"))
    result = first.read_text()
    crash(first.parent, "loss is NaN\n\nTraceback: /home/me")
    published = publish(Comparison.of(root, protocol), outputs, protocol)
    (cause,) = published.rglob("error.txt")
    assert cause.read_text() == "loss is NaN\n"
    for folder in (root, published):
        assert numbers(Comparison.of(folder, protocol))["crashed"].tolist()[0] == 1
    first.write_text(result)
    publish(Comparison.of(root, protocol), outputs, protocol)
    assert not cause.exists()
    assert numbers(Comparison.of(published, protocol))["crashed"].tolist()[0] == 0


def test_smoke_runs_are_not_published(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path / "demo", "fm", 1, 0.9, smoke=True)
    with pytest.raises(ValueError, match=r"demo has only smoke runs, whose numbers mean nothing"):
        publish(Comparison.of(tmp_path / "demo", protocol), tmp_path, protocol)


def test_a_large_file_is_not_published(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"a published file has at most"):
        publish(Comparison.of(outputs / "table3", protocol), outputs, protocol)


def test_the_files_of_an_experiment(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.93), (2, 0.94)):
        add_paper_run(tmp_path, "table3", "fm", seed, accuracy)
    folder = tmp_path / "report"
    write_table(Comparison.of(tmp_path / "table3", protocol), folder)
    assert "| 93.50 [87.15, 99.85] (1 of 3 seeds missing) |" in (folder / "table.md").read_text()
    assert r"93.50 [87.15, 99.85] (1 of 3 seeds missing)" in (folder / "table.tex").read_text()
    read = pd.read_csv(folder / "table.csv").set_index("router")
    assert read.loc["FM", ["mean", "std", "paper_mean"]].tolist() == pytest.approx([93.5, 0.5**0.5, 93.85])
    assert read.loc["EM (3)", ["n", "seeds_missing"]].tolist() == [0, 3]


EXPERIMENTS = {family(folder.name) for folder in PUBLISHED.glob("*/") if any(folder.rglob("result.json"))}
"""Those that have published runs; one name for both protocols of a table."""


@pytest.mark.parametrize("experiment", sorted(EXPERIMENTS))
def test_published_tables_are_what_their_results_give(experiment: str, tmp_path: Path) -> None:
    folder = PUBLISHED / experiment
    comparison = Comparison.of(folder, protocol)
    write_table(comparison, tmp_path)
    write_effects(comparison.panels, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_text() == (folder / "report" / path.name).read_text()
