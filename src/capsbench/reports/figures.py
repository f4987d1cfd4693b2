"""What all figures share: colours, legends, titles that fit, and files that follow a reader's dark mode."""

import io
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from capsbench.data.files import written_atomically
from capsbench.reports.comparison import COMPARED_WITH, Condition, Panel
from capsbench.reports.runs import Run

HANDLE_INCHES, LETTER_INCHES, ROW_INCHES = 0.6, 0.085, 0.22
"""Of a legend at matplotlib's usual size of letters."""
TITLE_LETTERS_PER_INCH = 11
DARK = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(.91) hue-rotate(180deg) } }</style>"
"""Turns white paper black and keeps hues."""


def palette(names: Iterable[str]) -> dict[str, str]:
    """Give each name a colour (#rrggbb)."""
    sequence = matplotlib.color_sequences["tab10"]
    return {name: to_hex(sequence[number % len(sequence)]) for number, name in enumerate(dict.fromkeys(names))}


def colors(panels: list[Panel]) -> dict[str, str]:
    """Give each label a colour (#rrggbb), the same in all these panels; a router one, where panels have it once."""
    of_routers = all(len({one.title for one in panel.conditions}) == len(panel.conditions) for panel in panels)
    conditions = _fm_first([one for panel in panels for one in panel.conditions])
    named = {one.label: one.title if of_routers else one.label for one in conditions}
    found = palette(named.values())
    return {label: found[name] for label, name in named.items()}


def in_order(panel: Panel) -> list[tuple[str, list[Run]]]:
    """List a panel's labels and runs in the order of legends: FM first, then by name."""
    return [(condition.label, condition.runs) for condition in _fm_first(panel.conditions)]


def _fm_first(conditions: list[Condition]) -> list[Condition]:
    return sorted(conditions, key=lambda one: (COMPARED_WITH not in (one.router, one.row), one.label.lower()))


def label_of(label: str, runs: list[Run]) -> str:
    """Add the number of seeds to a label."""
    return f"{label} (n = {len(runs)})"


def wrapped(title: str, inches: float) -> str:
    """Break a title into lines that fit a width."""
    return textwrap.fill(title, int(inches * TITLE_LETTERS_PER_INCH))


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Put a legend below the axes, in columns that fit; long names are broken, and the figure grows by its rows."""
    letters = int((figure.get_figwidth() - HANDLE_INCHES) / LETTER_INCHES)
    names = [textwrap.fill(name, letters) for name in handles]
    widest = HANDLE_INCHES + LETTER_INCHES * max((len(line) for name in names for line in name.split("\n")), default=0)
    columns = max(1, min(3, int(figure.get_figwidth() / widest)))
    rows = -(-len(handles) // columns) + max((name.count("\n") for name in names), default=0)
    figure.set_figheight(figure.get_figheight() + ROW_INCHES * rows)
    figure.legend(handles.values(), names, loc="outside lower center", ncols=columns)


def literal(figure: Figure) -> Figure:
    """Take dollars in a figure's texts for dollars, not for formulas; return the figure."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def to_svg(figure: Figure) -> str:
    """Write a figure as an <svg> element with a transparent background."""
    buffer = io.StringIO()
    _save_svg(figure, buffer, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.png, and NAME.svg that follows a reader's dark mode, into a folder."""
    with written_atomically(folder / f"{name}.svg") as path:
        _save_svg(figure, path)
        path.write_text(
            path.read_text(encoding="utf-8").replace("<metadata>", f"{DARK}\n <metadata>", 1), encoding="utf-8"
        )
    with written_atomically(folder / f"{name}.png") as path:
        literal(figure).savefig(path, format="png", dpi=150)


def _save_svg(figure: Figure, target: Path | io.StringIO, *, transparent: bool = False) -> None:
    """Save without date and random ids, so that a published file changes only with its numbers."""
    with matplotlib.rc_context({"svg.hashsalt": "capsbench"}):
        literal(figure).savefig(target, format="svg", metadata={"Date": None}, transparent=transparent)
