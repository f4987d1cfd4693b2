"""Tables of texts as Markdown, LaTeX, HTML, and for the terminal."""

import html
import io

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

NOTHING = "–"
"""The text of an empty cell."""
WIDER_THAN_ANY_TABLE = 10_000
NAMES = ("Data", "Layer", "Network", "Router", "Threads")
"""Columns of names; all others are of numbers."""
ASIDE = r" ([\[(].*)$"
"""What stands in brackets after a number."""

LATEX = {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$", "<": "$<$"}


def to_rich(table: pd.DataFrame, **options: object) -> Table:
    """Make a table for rich, names to the left and numbers to the right."""
    shown = Table(**options)  # type: ignore[arg-type]
    for column in table.columns:
        shown.add_column(column, justify="left" if column in NAMES else "right", overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*row)
    return shown


def to_markdown(table: pd.DataFrame) -> str:
    """Write a table in GitHub's Markdown."""
    escaped = table.map(lambda text: text.replace("|", r"\|"))
    console = Console(file=io.StringIO(), width=WIDER_THAN_ANY_TABLE, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(to_rich(escaped, box=box.MARKDOWN))
    return captured.get().strip() + "\n"


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Write a table for LaTeX with the packages booktabs and graphicx, scaled to the width of the text."""
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
    """Write a table as an HTML element; texts are escaped, and what follows a number in brackets is a span."""
    escaped = table.map(html.escape)
    for column in escaped.columns.intersection(["Ours %", "Accuracy %", "p against FM"]):
        escaped[column] = escaped[column].str.replace(ASIDE, r" <span>\1</span>", regex=True)
    return escaped.to_html(index=False, border=0, escape=False)


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the column Data if it says the same in every row."""
    return table if table["Data"].nunique() > 1 else table.drop(columns="Data")


def say(line: str) -> None:
    """Print a line as it is."""
    Console(markup=False, highlight=False).print(line, soft_wrap=True)
