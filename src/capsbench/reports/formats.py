"""Tables of texts as Markdown, LaTeX, HTML, and for the terminal."""

import html
import io
import math
import re
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from capsbench.reports.statistics import ALPHA, Estimate

NOTHING = "–"
"""The text of an empty cell."""
WIDER_THAN_ANY_TABLE = 10_000
NAMES = ("Data", "Layer", "Network", "Protocol", "Router", "Threads", "Verdict")
"""Columns of names; so are others with a cell that begins with a letter. All the rest are of numbers."""
ASIDE = r"^([+−]?\d[\d.,]*) ([\[(].*)$"
"""A number, and what stands in brackets after it."""
MARKUP = re.compile(r"[|*`]|<(?=[a-zA-Z/!?])|\](?=[(\[:])|&(?=#?\w+;)|\\(?=[!-/:-@[-`{-~]|$)")
"""What Markdown would take for something else in a name: tags, links, entities, backslashes before another sign."""
FORMULA = ("=", "+", "-", "@", "\t")
"""How a cell begins that a spreadsheet takes for a formula."""

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
    names = names_in(table)
    for column in table.columns:
        shown.add_column(column, justify="left" if column in names else "right", overflow="fold")
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
    """Write a text so that Markdown shows it as it is, also in a table; in one line.

    >>> print(markdown("a|b <i> [c](javascript:d)"))
    a\\|b \\<i> [c\\](javascript:d)
    """
    return MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))


def emphasized(text: str) -> str:
    """Write a text in italics in Markdown, as a paragraph."""
    return f"*{markdown(text)}*\n"


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Write a table for LaTeX with the packages booktabs and graphicx, scaled to the width of the text."""
    names = names_in(table)
    written = table.rename(columns=latex).map(latex)
    alignment = "".join("l" if column in names else "r" for column in table.columns)
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


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe.

    Source: OWASP, "CSV Injection".
    """
    texts = table.select_dtypes(exclude=["number", "bool"])
    plain = {str(name): column.map(_no_formula) for name, column in texts.items()}
    return table.assign(**plain).rename(columns=_no_formula).to_csv(index=False)


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = " ".join(cell.splitlines())
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text
    return text


def to_html(table: pd.DataFrame) -> str:
    """Write a table as an HTML element; texts are escaped, and what follows a number in brackets is a span.

    Names beyond the first column are <i>, which the page sets to the left as it does the first column.
    """
    escaped = table.map(html.escape).rename(columns=html.escape)
    names = names_in(escaped.iloc[:, 1:])
    for column in escaped.columns[1:]:
        if column in names:
            escaped[column] = "<i>" + escaped[column] + "</i>"
        else:
            escaped[column] = escaped[column].str.replace(ASIDE, r"\1 <span>\2</span>", regex=True)
    escaped = escaped.rename(columns={name: f"<i>{name}</i>" for name in names})
    return escaped.to_html(index=False, border=0, escape=False)


def names_in(table: pd.DataFrame) -> list[str]:
    """List the columns that hold names."""
    return [column for column in map(str, table) if column in NAMES or table[column].str.match("[A-Za-z]").any()]


def estimate_text(found: Estimate, sign: str = "") -> str:
    """Write "93.50 [92.26, 94.74]"; without brackets where there is no interval."""
    if math.isnan(found.mean):
        return NOTHING
    interval = "" if math.isnan(found.low) else f" [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"
    return f"{found.mean:{sign}.2f}{interval}".replace("-", "−")


def p_text(p: float) -> str:
    """Write p with three digits, or with more while it would look like the border."""
    if math.isnan(p):
        return NOTHING
    texts = (f"{p:.{digits}f}" for digits in range(3, 17))
    return "< 0.001" if p < 0.001 else next((text for text in texts if float(text) != ALPHA), f"{p:.3f}")


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """Drop the column Data if it says the same in every row."""
    return table if table["Data"].nunique() > 1 else table.drop(columns="Data")


def say(line: str) -> None:
    """Print a line as it is."""
    Console(markup=False, highlight=False).print(line, soft_wrap=True)
