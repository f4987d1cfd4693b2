"""A comparison's table as Markdown, LaTeX, CSV and HTML."""

import html
import io
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from capsbench.reports.tables import Comparison, cells, numbers

WIDER_THAN_ANY_TABLE = 10_000
NAMES = ("Data", "Layer", "Network", "Router")
"""Columns of texts; all others are of numbers."""
ASIDE = r" ([\[(].*)$"
"""What a number's cell says in brackets behind it."""

LATEX = {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$", "<": "$<$"}


def write_table(comparison: Comparison, folder: Path) -> None:
    """Write table.md, table.tex and table.csv into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = cells(comparison)
    (folder / "table.md").write_text(to_markdown(shown), encoding="utf-8")
    (folder / "table.tex").write_text(to_latex(shown, comparison.title), encoding="utf-8")
    numbers(comparison).to_csv(folder / "table.csv", index=False)


def to_rich(table: pd.DataFrame, **options: object) -> Table:
    """A table of texts for rich, names to the left and numbers to the right."""
    shown = Table(**options)  # type: ignore[arg-type]
    for column in table.columns:
        shown.add_column(column, justify="left" if column in NAMES else "right", overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*row)
    return shown


def to_markdown(table: pd.DataFrame) -> str:
    """A table of texts in GitHub's Markdown."""
    escaped = table.map(lambda text: text.replace("|", r"\|"))
    console = Console(file=io.StringIO(), width=WIDER_THAN_ANY_TABLE, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(to_rich(escaped, box=box.MARKDOWN))
    return captured.get().strip() + "\n"


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """A table of texts for LaTeX with the packages booktabs and graphicx, scaled to the width of the text."""
    style = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    alignment = "".join("l" if column in NAMES else "r" for column in table.columns)
    text = style.to_latex(hrules=True, column_format=alignment)
    for character, written in LATEX.items():
        text = text.replace(character, written)
    return f"""% {caption}; needs the packages booktabs and graphicx
\\resizebox{{\\linewidth}}{{!}}{{%
{text.rstrip()}%
}}
"""


def to_html(table: pd.DataFrame) -> str:
    """A table of texts as an HTML element; its texts are escaped, what stands in brackets behind a number is a span."""
    escaped = table.map(html.escape)
    for column in escaped.columns.intersection(["Ours %", "Accuracy %", "p against FM"]):
        escaped[column] = escaped[column].str.replace(ASIDE, r" <span>\1</span>", regex=True)
    return escaped.to_html(index=False, border=0, escape=False)


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the column Data if that says the same in every row."""
    return table if table["Data"].nunique() > 1 else table.drop(columns="Data")


def say(line: str) -> None:
    """Print a line as it is."""
    Console(markup=False, highlight=False).print(line, soft_wrap=True)
