"""Which figures an experiment gets: curves by router, or final accuracies by the settings that vary in its runs."""

from pathlib import Path

from matplotlib.figure import Figure

from capsbench.reports.comparison import Comparison, Panel
from capsbench.reports.curves import training_curves
from capsbench.reports.dots import against_setting
from capsbench.reports.effects import interactions, main_effects
from capsbench.reports.figures import colors, write_figure
from capsbench.reports.runs import MEASURED
from capsbench.reports.sweeps import Sweep

CURVES, SETTINGS, COMBINATIONS = "curves", "settings", "combinations"


def has_curves(comparison: Comparison, panel: Panel) -> bool:
    """Tell whether a panel is drawn as curves: the paper's are, and runs that differ in nothing but the router."""
    return comparison.target is not None or not Sweep.of(panel).settings


def setting_figures(panel: Panel) -> dict[str, Figure]:
    """Draw a panel's final accuracies by the settings that vary in its runs; nothing if none does."""
    sweep = Sweep.of(panel)
    if not sweep.settings:
        return {}
    crashed = sum(len(condition.crashed) for condition in (*panel.conditions, *panel.lost))
    missing = f" ({crashed} run{'s' if crashed > 1 else ''} crashed)" if crashed else ""
    told = (sweep, panel.title + missing, MEASURED[panel.metric])
    if sweep.is_factorial:
        return {SETTINGS: main_effects(*told), COMBINATIONS: interactions(*told)}
    return {SETTINGS: against_setting(*told)}


def write_figures(comparison: Comparison, folder: Path) -> None:
    """Write an experiment's figures into a folder, and remove those that it no longer has.

    Curves of all panels are one figure; the other panels have settings.png, settings-2.png, …, each with an SVG.
    """
    with_curves = [panel for panel in comparison.panels if has_curves(comparison, panel)]
    figures = {CURVES: training_curves(with_curves, colors(comparison.panels))} if with_curves else {}
    for number, panel in enumerate(comparison.panels):
        figures |= {f"{name}-{number + 1}" if number else name: one for name, one in setting_figures(panel).items()}
    for path in [path for name in (CURVES, SETTINGS, COMBINATIONS) for path in folder.glob(f"{name}*.*")]:
        if path.stem not in figures:
            path.unlink()
    for name, figure in figures.items():
        write_figure(figure, folder, name)
