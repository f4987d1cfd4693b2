"""Names that a run brings are text in every page and table: no markup, no link, no formula."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import emphasized, to_csv, to_markdown
from capsbench.reports.publish import write_report
from capsbench.runs import Identity, Result

NAMES = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "![x](javascript:alert(1))",
    "[x]: javascript:alert(1)",
    "<javascript:alert(1)>",
    r"\<img src=x onerror=alert(1)>",
    r"\[x](javascript:alert(1))",
    r"[x\](javascript:alert(1))",
    r"\\<b>",
    "a|b\n<b>c",
    "a\n\n# b\n",
    "<!-- a -->",
    "&lt;b&gt;",
    "x\\",
    "%{x} {{ 1 }}",
    '=HYPERLINK("http://x")',
    "javascript:alert(1)",
    """</h3>'"><img src=x onerror="alert(1)"><a href='javascript:alert(1)'><script>""",
]


class Page(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.text += data


def write_runs(root: Path, names: list[str]) -> None:
    """Write a run of FM, and one for each router's name; the last name stands wherever a run may bring one."""
    told = names[-1]
    for name in ("fm", *names):
        settings = {"seed": 1, "router": {"_target_": told, "mode": told}}
        choices = {"router": name, "arch": told}
        identity = Identity("demo", "digits", told, name, seed=1, settings=settings, choices=choices)
        result = Result(
            experiment="demo",
            data="digits",
            arch=told,
            router=name,
            seed=1,
            identity=identity.digest,
            settings=settings,
            choices=choices,
            metrics={"test/accuracy": 0.5},
            history=[{"epoch": epoch, "train/accuracy": 0.5, "test/accuracy": 0.5} for epoch in (1, 2)],
            epochs=2,
            versions={name: name},
            device=name,
            git_commit=name,
            data_title="digits",
            confusion={"test": [[3, 1], [1, 3]]},
            class_names=[told, "b"],
            identity_version=identity.version,
        )
        folder = identity.folder(root.parent)
        folder.mkdir(parents=True)
        result.save(folder)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Reports on as many runs with plain names and with hostile ones."""
    root = tmp_path_factory.mktemp("reports")
    plain, hostile = root / "plain" / "demo", root / "hostile" / "demo"
    write_runs(plain, [f"name{number}" for number in range(len(NAMES))])
    write_runs(hostile, NAMES)
    for folder in (plain, hostile):
        write_report(Comparison.of(folder, protocol), folder)
    return plain, hostile


def test_the_page_has_the_same_elements_as_one_of_plain_names(reports: tuple[Path, Path]) -> None:
    plain, hostile = ((folder / "report.html").read_text() for folder in reports)
    found, wanted = ([tag for tag, _ in Page(text).tags] for text in (hostile, plain))
    for tag in ("script", "img", "a", "h1", "h2", "style", "iframe", "meta", "noscript"):
        assert found.count(tag) == wanted.count(tag), tag
    for tag, attributes in Page(hostile).tags:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,", "http://www.w3.org/"))
    text = " ".join(Page(hostile).text.split())
    assert [name for name in NAMES if " ".join(name.split()) not in text] == []


def test_labels_of_curves_are_no_markup_for_plotly(reports: tuple[Path, Path]) -> None:
    """It would make links of tags, and put values in place of %{…}."""
    page = (reports[1] / "report.html").read_text()
    drawn = "".join(re.findall(r"Plotly\.newPlot\((.*?)</script>", page, re.DOTALL))
    drawn = re.sub(r'"legendgroup":"(\\.|[^"\\])*"', "", drawn)
    assert "&lt;a href" in drawn
    for tag in ("a", "b", "img", "script"):
        assert f"\\u003c{tag}" not in drawn
    assert "%{x}" not in drawn.replace("Epoch %{x}", "")


def test_the_tables_have_neither_markup_nor_formulas(reports: tuple[Path, Path]) -> None:
    written = shown((reports[1] / "report" / "table.md").read_text())
    assert not {"script", "img", "a", "h1", "b"} & {tag for tag, _ in written.tags}
    with (reports[1] / "report" / "table.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "\t", "\r"))]


def shown(text: str) -> Page:
    """Markdown as GitHub reads it, but with HTML let through."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    told = " ".join(name.split())
    table = pd.DataFrame({"Router": [name], name: ["1"]})
    page = shown(f"{to_markdown(table)}\n{emphasized(name)}")
    assert [tag for tag, _ in page.tags] == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "p", "em"]
    assert " ".join(page.text.split()) == f"Router {told} {told} 1 {told}"


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", '=c|" /C d"!A0', "-a", "+", "-"])
def test_in_csv_no_text_is_a_formula(cell: str) -> None:
    table = pd.DataFrame({"a": [cell], cell: [1]})
    header, row = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert (header, row) == (["a", f"'{cell}"], [f"'{cell}", "1"])


@pytest.mark.parametrize("cell", ["\r=1", "a\r=1", "a\n=1", "\n\r\n=1"])
def test_in_csv_a_text_is_one_cell(cell: str) -> None:
    written = to_csv(pd.DataFrame({"a": [cell]}))
    _, (found,) = csv.reader(io.StringIO(written, newline=""))
    assert not found.lstrip().startswith("=")


def test_in_csv_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": ["-1.5", "+2e3"], "c": [-1, 2], "d": ["x=1", None]})
    assert to_csv(table) == table.to_csv(index=False)
    assert to_csv(table.convert_dtypes()) == table.convert_dtypes().to_csv(index=False)
