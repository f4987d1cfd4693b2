"""Tables of texts as Markdown, LaTeX, HTML, and for the terminal."""

import html
import io
import re

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

NOTHING = "–"
"""The text of an empty cell."""
WIDER_THAN_ANY_TABLE = 10_000
NAMES = ("Data", "Layer", "Network", "Protocol", "Router", "Threads", "Verdict")
"""Columns of names; all others are of numbers."""
ASIDE = r"^([+−]?\d[\d.,]*) ([\[(].*)$"
"""A number, and what stands in brackets after it."""
MARKUP = re.compile(r"[|*`]|<(?=[a-zA-Z/!?])")
"""What Markdown would take for something else in a name."""

GREEK = ("alpha", "beta", "gamma", "delta", "varepsilon", "lambda", "mu", "sigma")
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {"±": r"$\pm$", "−": "$-$", "–": "--", "×": r"$\times$", "÷": r"$\div$", "→": r"$\rightarrow$", "<": "$<$"}
SPECIAL |= {">": "$>$", "|": r"\textbar{}", "²": r"\textsuperscript{2}", "°": r"\textdegree{}"}
SPECIAL |= dict(zip("αβγδελμσ", (f"$\\{name}$" for name in GREEK), strict=True))
LATEX = str.maketrans(SPECIAL)
"""Characters that LaTeX would take for something else, or that its usual fonts lack."""


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
    escaped = table.rename(columns=markdown).map(markdown)
    console = Console(file=io.StringIO(), width=WIDER_THAN_ANY_TABLE, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(to_rich(escaped, box=box.MARKDOWN))
    return captured.get().strip() + "\n"


def markdown(text: str) -> str:
    """Write a text so that Markdown shows it as it is, also in a table."""
    return MARKUP.sub(r"\\\g<0>", text)


def emphasized(text: str) -> str:
    """Write a text in italics in Markdown, as a paragraph."""
    return f"*{markdown(text)}*\n"


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Write a table for LaTeX with the packages booktabs and graphicx, scaled to the width of the text."""
    written = table.rename(columns=latex).map(latex)
    alignment = "".join("l" if column in NAMES else "r" for column in table.columns)
    text = written.style.hide(axis="index").to_latex(hrules=True, column_format=alignment)
    return f"""% needs the packages booktabs and graphicx
\\begin{{table}}
\\caption{{{latex(caption)}}}
\\resizebox{{\\linewidth}}{{!}}{{%
{text.rstrip()}%
}}
\\end{{table}}
"""


def latex(text: str) -> str:
    """Write a text so that LaTeX shows it as it is; in a cell a leading bracket would be an option of the line before.

    >>> latex("[50 % of a_b]")
    '{[}50 \\\\% of a\\\\_b]'
    """
    written = " ".join(text.split()).translate(LATEX)
    return "{[}" + written[1:] if written.startswith("[") else written


def to_html(table: pd.DataFrame) -> str:
    """Write a table as an HTML element; texts are escaped, and what follows a number in brackets is a span."""
    escaped = table.rename(columns=html.escape).map(html.escape)
    for column in escaped.columns.difference(list(NAMES)):
        escaped[column] = escaped[column].str.replace(ASIDE, r"\1 <span>\2</span>", regex=True)
    return escaped.to_html(index=False, border=0, escape=False)


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the column Data if it says the same in every row."""
    return table if table["Data"].nunique() > 1 else table.drop(columns="Data")


def say(line: str) -> None:
    """Print a line as it is."""
    Console(markup=False, highlight=False).print(line, soft_wrap=True)
