"""Results that are committed, and the tables of our pages made from them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.reports import publish as publishing
from capsbench.reports.benchmarks import write_benchmark_table
from capsbench.reports.publish import experiments, filled, publish, write_report
from capsbench.reports.tables import Comparison

AddRun = Callable[..., Path]
ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "outputs" / "published"
README = "# Title\n\n<!-- table: table3 -->\nold\n<!-- end -->\n\ntext\n"

PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
MEASURED = re.compile(r"(?<![\w.,§])(?<!Python )(?<!arXiv:)(?<!Apache-)(\d+\.\d+|[\d.,]+(?= (?:%|ms|×)))(?!\w)")
"""A number with decimals, or of percent, milliseconds or times."""


def prose_and_tables(page: str) -> tuple[str, str]:
    """What people wrote on a page, without code, and what was made from published results."""
    tables = "\n".join(block[0] for block in publishing.BLOCK.finditer(page))
    without = publishing.BLOCK.sub("", page)
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", without, flags=re.DOTALL)
    return prose, tables


@pytest.fixture
def outputs(add_paper_run: AddRun, tmp_path: Path) -> Path:
    for seed, accuracy in ((1, 0.93), (2, 0.94), (3, 0.935)):
        folder = add_paper_run(tmp_path, "table3", "fm", seed, accuracy)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"large")
    return tmp_path


def test_the_report_beside_the_runs(outputs: Path) -> None:
    write_report(outputs / "table3")
    files = {path.name for path in (outputs / "table3" / "report").iterdir()}
    assert files == {"table.md", "table.tex", "table.csv", "curves.svg", "curves.png"}
    assert (outputs / "table3" / "report.html").is_file()


def test_what_is_small_is_published_with_the_report_on_it(outputs: Path) -> None:
    root = outputs / "table3"
    published = publish(Comparison.of(root), root, outputs)
    assert published == outputs / "published" / "table3"
    assert len(list(published.rglob("result.json"))) == 3
    assert not list(published.rglob("*.ckpt"))
    write_report(root)
    for name in ("table.md", "table.tex", "table.csv", "curves.svg"):
        assert (published / "report" / name).read_bytes() == (root / "report" / name).read_bytes()
    assert "<script" not in (published / "report.html").read_text()
    assert experiments(outputs) == ["table3"], "what is published is no experiment of its own"


def test_runs_of_several_machines_come_together(outputs: Path, add_paper_run: AddRun, tmp_path: Path) -> None:
    root = outputs / "table3"
    publish(Comparison.of(root), root, outputs)
    elsewhere = tmp_path / "elsewhere"
    add_paper_run(elsewhere, "table3", "em", 1, 0.8)
    publish(Comparison.of(elsewhere / "table3"), elsewhere / "table3", outputs)
    assert len(list((outputs / "published").rglob("result.json"))) == 4


def test_a_large_file_is_not_published(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"a published file has at most"):
        publish(Comparison.of(outputs / "table3"), outputs / "table3", outputs)


def test_a_readme_is_filled_and_filled_again(outputs: Path) -> None:
    publish(Comparison.of(outputs / "table3"), outputs / "table3", outputs)
    once = filled(README, outputs / "published")
    assert once.startswith("# Title\n\n<!-- table: table3 -->\n\n| Router")
    assert " 93.50 ± 0.50 |" in once
    assert once.endswith("|\n\n<!-- end -->\n\ntext\n")
    assert filled(once, outputs / "published") == once
    result = next((outputs / "published").rglob("result.json"))
    content = json.loads(result.read_text())
    content["metrics"]["test/accuracy"] = 0.5
    result.write_text(json.dumps(content))
    assert filled(once, outputs / "published") != once, "the table follows the results"


def test_a_marker_for_what_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table3 is not there; publish it first: capsbench report experiment=table3"):
        filled(README, tmp_path)


def test_a_readme_holds_tables_of_benchmarks(tmp_path: Path) -> None:
    text = README.replace("table3", "benchmarks/table1")
    with pytest.raises(ValueError, match=r"table1\.json is not there; publish it first: capsbench benchmark table1"):
        filled(text, tmp_path)
    measured = {"CIFAR-10, CPU, FM: ms": {"median": 2.0, "least": 1.0, "most": 3.0}}
    record = {"benchmark": "table1", "settings": {"repetitions": 7}, "measured": measured, "devices": ["cpu"]}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "table1.json").write_text(json.dumps(record | {"versions": {"torch": "2"}}))
    assert "2.00 (1.00 to 3.00)" in filled(text, tmp_path)


def test_a_readme_holds_tables_of_equivariance(outputs: Path) -> None:
    text = README.replace("table3", "table3/equivariance")
    with pytest.raises(
        ValueError, match=r"no run in .*table3 was analysed; do it first: capsbench analyze equivariance"
    ):
        filled(text, outputs)
    r2 = {"rotation": {"value": 0.25, "low": 0.125, "high": 0.5}}
    measured = dict.fromkeys(("pose", "pose per class", "features", "activations"), r2)
    for result in outputs.rglob("result.json"):
        result.with_name("equivariance.json").write_text(json.dumps({"equivariance": measured}))
    assert "0.25 ± 0.00" in filled(text, outputs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_our_pages_tell_what_is_published(page: Path) -> None:
    text = page.read_text()
    assert filled(text, PUBLISHED) == text, f"run: capsbench report readme={page.relative_to(ROOT)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_number_in_our_prose_stands_in_a_table_below_or_above_it(page: Path) -> None:
    prose, tables = prose_and_tables(page.read_text())
    unbacked = {
        number for number in MEASURED.findall(prose) if not re.search(rf"(?<![\d.]){number}(?![\d.]*\d)", tables)
    }
    assert not unbacked


def test_an_unbacked_number_is_found() -> None:
    prose, tables = prose_and_tables(f"FM has 93.1 %, in 2 ms.\n\n{README}and 1.5 times `x=0.25`, 7 seeds")
    assert MEASURED.findall(prose) == ["93.1", "2", "1.5"]
    assert "old" in tables
    assert "old" not in prose


HEADERS = sorted(ROOT.glob("conf/experiment/*.yaml"))


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_a_number_in_an_experiments_header_is_the_papers_or_published(path: Path) -> None:
    comments = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    known = ROOT.joinpath("src", "capsbench", "reports", "paper.yaml").read_text()
    known += "".join(table.read_text() for table in PUBLISHED.glob(f"{path.stem}/report/table.md"))
    missing = [
        number for number in re.findall(r"(?<![§.\d])\d+\.\d+", comments) if not re.search(rf"\b{number}\b", known)
    ]
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_that_our_pages_link_to_are_there(page: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert linked
    assert [link for link in linked if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "folder", sorted(set(PUBLISHED.glob("*/")) - {PUBLISHED / "benchmarks"}), ids=lambda folder: folder.name
)
def test_published_tables_are_what_their_results_give(folder: Path, tmp_path: Path) -> None:
    publishing.write_table(Comparison.of(folder), tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_text() == (folder / "report" / path.name).read_text()


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("benchmarks/*.md")), ids=lambda path: path.stem)
def test_published_benchmarks_are_what_their_measurements_give(path: Path, tmp_path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    write_benchmark_table(path.stem, record["measured"], tmp_path)
    for written in tmp_path.iterdir():
        assert written.read_text() == (path.parent / written.name).read_text()
