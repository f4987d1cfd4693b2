"""Names that a run brings are text in every page and table: no markup, no link, no formula."""

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import emphasized, to_csv, to_markdown
from capsbench.reports.publish import write_report
from capsbench.runs import Result
from capsbench.runs.identity import VERSION

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


def write_runs(root: Path, name: str) -> None:
    for seed in (1, 2):
        for router in ("fm", name):
            result = Result(
                experiment="demo",
                data="digits",
                arch=name,
                router=router,
                seed=seed,
                identity="x",
                settings={"seed": seed, "router": {"_target_": name, "mode": name}, "loss": {name[:40]: name}},
                choices={"router": router, "arch": name, "loss": name},
                metrics={"test/accuracy": 0.5 + seed / 100},
                history=[{"epoch": epoch, "train/accuracy": 0.5, "test/accuracy": 0.5} for epoch in (1, 2)],
                epochs=2,
                versions={name: name},
                device=name,
                git_commit=name,
                data_title=name,
                confusion={"test": [[3, 1], [1, 3]]},
                class_names=[name, "b"],
                identity_version=VERSION,
            )
            folder = root / ("a" if router == "fm" else "b") / str(seed)
            folder.mkdir(parents=True)
            result.save(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_report_on_runs_with_hostile_names(tmp_path: Path, name: str) -> None:
    write_runs(tmp_path / "plain", "name")
    write_runs(tmp_path / "demo", name)
    for root in (tmp_path / "plain", tmp_path / "demo"):
        write_report(Comparison.of(root, protocol), root)
    plain, page = ((tmp_path / root / "report.html").read_text() for root in ("plain", "demo"))
    found, tags = ([tag for tag, _ in Page(text).tags if tag != "path"] for text in (plain, page))
    assert {tag: tags.count(tag) for tag in ("script", "img", "a", "b")} == {
        tag: found.count(tag) for tag in ("script", "img", "a", "b")
    }
    for tag, attributes in Page(page).tags:
        assert not [key for key in attributes if key.startswith("on")], tag
        for key in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,", "http://www.w3.org/"))
    assert "\\u003ca href" not in page, "plotly makes links of tags in labels"
    assert "\\u003cscript" not in page
    assert "\\u003cimg" not in page
    written = shown((tmp_path / "demo" / "report" / "table.md").read_text())
    assert not {"script", "img", "a", "h1", "b"} & {tag for tag, _ in written.tags}
    rows = list(csv.reader((tmp_path / "demo" / "report" / "table.csv").open(newline="")))
    assert len({len(row) for row in rows}) == 1
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


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '=c|" /C d"!A0', "-a", "+", "-"])
def test_in_csv_no_text_is_a_formula(cell: str) -> None:
    table = pd.DataFrame({"a": [cell], cell: [1]})
    header, row = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert (header, row) == (["a", f"'{cell}"], [f"'{cell}", "1"])


def test_in_csv_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": ["-1.5", "+2e3"], "c": [-1, 2], "d": ["x=1", None]})
    assert to_csv(table) == table.to_csv(index=False)
    assert to_csv(table.convert_dtypes()) == table.convert_dtypes().to_csv(index=False)
