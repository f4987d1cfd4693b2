"""Tables in README and docs, and what our pages say beside them."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from capsbench.benchmarks.measure import Measurement
from capsbench.launch.protocols import protocol
from capsbench.reports import readme
from capsbench.reports.comparison import Comparison
from capsbench.reports.measured import UNITS
from capsbench.reports.publish import publish
from capsbench.reports.readme import filled

AddRun = Callable[..., Path]
ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "outputs" / "published"
README = "# Title\n\n<!-- table: table3 -->\nold\n<!-- end -->\n\ntext\n"

PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
MEASURED = re.compile(
    r"(?<![\w.,§])(?<!Python )(?<!arXiv:)(?<!Apache-)(?!95 % (?:t-)?intervals?)(\d+\.\d+|[\d.,]+(?= (?:%|ms|×)))(?!\w)"
)
"""A number with decimals, or of percent, milliseconds or times; but for the level of intervals."""


FAULTS = re.compile(r"<!-- faults -->.*?<!-- end -->", re.DOTALL)
"""What `make test-faults` writes."""


def prose_and_tables(page: str) -> tuple[str, str]:
    """What people wrote on a page, without code, and what was made from published results."""
    tables = "\n".join(block[0] for block in readme.BLOCK.finditer(page))
    without = FAULTS.sub("", readme.BLOCK.sub("", page))
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", without, flags=re.DOTALL)
    return prose, tables


@pytest.fixture
def outputs(add_paper_run: AddRun, tmp_path: Path) -> Path:
    for seed, accuracy in ((1, 0.93), (2, 0.94), (3, 0.935)):
        add_paper_run(tmp_path, "table3", "fm", seed, accuracy)
    return tmp_path


def test_a_readme_is_filled_and_filled_again(outputs: Path) -> None:
    publish(Comparison.of(outputs / "table3", protocol), outputs, protocol)
    once = filled(README, outputs / "published", protocol)
    assert once.startswith("# Title\n\n<!-- table: table3 -->\n\n| Router")
    assert " 93.50 [92.26, 94.74] |" in once
    assert "|\n\n*Data: affNIST. All runs: " in once
    assert once.endswith("*\n\n<!-- end -->\n\ntext\n")
    assert filled(once, outputs / "published", protocol) == once
    result = next((outputs / "published").rglob("result.json"))
    content = json.loads(result.read_text())
    content["metrics"]["test/accuracy"] = 0.5
    result.write_text(json.dumps(content))
    assert filled(once, outputs / "published", protocol) != once, "the table follows the results"


def test_a_marker_for_what_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table3 does not exist; publish it first: capsbench report"):
        filled(README, tmp_path, protocol)


def test_a_readme_holds_tables_of_benchmarks(tmp_path: Path) -> None:
    text = README.replace("table3", "benchmarks/table1")
    with pytest.raises(ValueError, match=r"table1\.json does not exist; publish it first: capsbench benchmark table1"):
        filled(text, tmp_path, protocol)
    at = {"router": "fm", "implementation": "plain", "device": "CPU"}
    measured = asdict(Measurement.of([1.0, 2.0, 3.0], "capsnet_light, CIFAR-10", "forward", "ms", **at))
    record = {"benchmark": "table1", "settings": {"repetitions": 7}, "measurements": [measured], "devices": ["cpu"]}
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "table1.json").write_text(json.dumps(record | {"versions": {"torch": "2"}}))
    assert "2.00 (1.00, 2.00)" in filled(text, tmp_path, protocol)


def test_a_readme_holds_tables_of_equivariance(outputs: Path) -> None:
    text = README.replace("table3", "table3/equivariance")
    with pytest.raises(
        ValueError, match=r"no run in .*table3 was analysed; do it first: capsbench analyze equivariance"
    ):
        filled(text, outputs, protocol)
    r2 = {"rotation": {"value": 0.25, "low": 0.125, "high": 0.5}}
    measured = dict.fromkeys(("pose", "pose per class", "features", "activations"), r2)
    curve = {"values": [0], "accuracy": [0.9], "activation_change": [0.0], "accuracy_area": 0.9, "change_area": 0.0}
    content = {"equivariance": measured, "invariance": dict.fromkeys(UNITS, curve)}
    for result in outputs.rglob("result.json"):
        result.with_name("equivariance.json").write_text(json.dumps(content))
    assert "0.25 [0.12, 0.50]" in filled(text, outputs, protocol)


def test_a_readme_holds_tables_of_effects(outputs: Path, add_run: AddRun) -> None:
    for gain, width, seed in itertools.product((0.5, 1.0), (8, 16), (1, 2)):
        arch = {"vote_gain": gain, "width": width}
        add_run(outputs / "factorial", "fm", seed, gain / 2 + seed / 100, settings={"seed": seed, "arch": arch})
    shown = filled(README.replace("table3", "factorial/effects"), outputs, protocol)
    assert re.search(r"\| vote_gain +\| +0.5 \| 26.50 \[20.15, 32.85\] \| +2 \| +2 \| 0 of 4 \|", shown)
    with pytest.raises(
        ValueError, match=r"there is no table of effects in .*table3: too little varies in its runs; use table3$"
    ):
        filled(README.replace("table3", "table3/effects"), outputs, protocol)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_our_pages_tell_what_is_published(page: Path) -> None:
    text = page.read_text()
    assert filled(text, PUBLISHED, protocol) == text, f"run: capsbench report readme={page.relative_to(ROOT)}"


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


SUPERLATIVE = re.compile(
    r"\b(best|worst|always|never|none|nothing|nobody|every|everything|all|(?<!at )most|(?<!at )least|highest|lowest"
    r"|largest|smallest|fastest|slowest|strongest|weakest)\b",
    re.IGNORECASE,
)
"""Words that claim something of more than what was seen."""
ESTIMATE = re.compile(r"[+−]?\d[\d.,]* \[[^\]]+\]")
"""A number with its interval, as tables write it."""


def superlatives(page: str) -> list[str]:
    """The sentences that claim more than a table tells: those without a number and interval that stands in one."""
    prose, tables = prose_and_tables(page)
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", prose)
    claims = [sentence for sentence in sentences if SUPERLATIVE.search(sentence)]
    return [claim for claim in claims if not any(number in tables for number in ESTIMATE.findall(claim))]


def about_results(page: Path) -> str:
    """A page of results; of another its introduction and the sections that have tables."""
    text = page.read_text()
    introduction, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    told = [section for section in sections if readme.BLOCK.search(section)]
    return text if page.stem == "results" else "".join([introduction, *told])


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "results.md"], ids=lambda page: page.name)
def test_a_superlative_in_our_prose_has_its_number_and_interval_from_a_table(page: Path) -> None:
    assert superlatives(about_results(page)) == []


def test_a_superlative_without_a_number_is_found() -> None:
    table = "<!-- table: x -->\n| FM | 93.50 [92.26, 94.74] |\n<!-- end -->\n"
    page = (
        f"# Title\n\nFM is the best. It has 1 at least.\n\n{table}\nFM has the most, 93.50 [92.26, 94.74]. "
        "EM is\nalways behind, at 80.00 [79.00, 81.00]."
    )
    assert superlatives(page) == ["FM is the best.", "EM is\nalways behind, at 80.00 [79.00, 81.00]."]


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
