"""Figures show all that they are told to."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison, Panel
from capsbench.reports.curves import training_curves
from capsbench.reports.drawings import COMBINATIONS, SETTINGS, setting_figures, write_figures
from capsbench.reports.figures import colors, in_order, write_figure

AddRun = Callable[..., Path]
TEN = [str(number) for number in range(10)]


def panel_of(root: Path) -> Panel:
    (panel,) = Comparison.of(root, protocol).panels
    return panel


def curves(root: Path) -> Figure:
    panel = panel_of(root)
    return training_curves([panel], colors([panel]))


def dots(figure: Figure, marker: str) -> list[float]:
    """Heights of all points of a marker, whatever their colour."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == marker]
    return sorted(float(height) for line in lines for height in line.get_ydata())


def intervals(figure: Figure) -> list[tuple[float, float]]:
    found = [one for ax in figure.axes for one in ax.collections if isinstance(one, LineCollection)]
    return [(float(path[0][1]), float(path[-1][1])) for one in found for path in one.get_segments()]


def assert_nothing_is_cut(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    drawn = figure.get_tightbbox(renderer)  # in inches, as is the figure's size
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()


@pytest.fixture
def factorial(add_run: AddRun, tmp_path: Path) -> Path:
    """2 x 2 x 2 runs of two routers; EM does not learn at the higher gain."""
    for router, gain, kind, seed in itertools.product(("fm", "em"), (0.25, 1.0), ("pair", "kernel"), (1, 2)):
        accuracy = 0.1 if (router, gain) == ("em", 1.0) else 0.8 + gain / 100 + seed / 1000
        trainer = {"max_epochs": 1, "max_steps": -1}
        settings = {"seed": seed, "arch": {"vote_gain": gain, "weight_init": kind}, "trainer": trainer}
        add_run(tmp_path, router, seed, accuracy, settings=settings, class_names=TEN)
    return tmp_path


def add_long_names(add_run: AddRun, root: Path, *settings: str) -> None:
    for router in ("fm", "dynamic", "em", "dynamic1"):
        for level in itertools.product(("", "_and_more"), repeat=len(settings)):
            values = {name: f"{name}_of_this_kind{end}" for name, end in zip(settings, level, strict=True)}
            for seed in (1, 2):
                title = "A data set whose title is so long that a figure cannot hold it on one line of its usual size"
                add_run(root, router, seed, 0.9, settings={"data": values}, epochs=3, data_title=title * 2)


@pytest.mark.parametrize("settings", [[], ["a_long_name"], ["a_long_name", "one_of_another_length"]])
def test_nothing_is_cut(add_run: AddRun, tmp_path: Path, settings: list[str]) -> None:
    add_long_names(add_run, tmp_path, *settings)
    figures = [curves(tmp_path), *setting_figures(panel_of(tmp_path)).values()]
    assert len(figures) == 1 + len(settings)
    for figure in figures:
        assert_nothing_is_cut(figure)


def test_a_legend_of_long_names_leaves_room_for_the_axes(add_run: AddRun, tmp_path: Path) -> None:
    add_long_names(add_run, tmp_path, "a_long_name", "one_of_another_length")
    figure = curves(tmp_path)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (legend,) = figure.legends
    axes = figure.axes[0].get_window_extent(renderer)
    assert legend.get_window_extent(renderer).y1 <= axes.y0
    assert axes.height > 200


def test_final_accuracies_are_a_dot_for_each_seed_with_mean_and_interval(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.9), (2, 0.94), (3, 0.91)):
        add_run(tmp_path, "fm", seed, accuracy, epochs=4)
    figure = curves(tmp_path)
    assert dots(figure, "o") == pytest.approx([90, 91, 94])
    assert dots(figure, "D") == pytest.approx([91.667], abs=0.001)
    expected = stats.t.interval(0.95, 2, loc=np.mean([90, 91, 94]), scale=stats.sem([90, 91, 94]))
    assert intervals(figure) == [pytest.approx(expected)]


def test_a_single_seed_has_no_interval(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, epochs=4)
    assert intervals(curves(tmp_path)) == []


def test_what_was_measured_once_is_a_point(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.9), (2, 0.94)):
        add_run(tmp_path, "fm", seed, accuracy, epochs=1)
    *_, mean = curves(tmp_path).axes[1].lines
    assert mean.get_marker() == "o"
    assert mean.get_ydata().tolist() == [92.0]


def test_curves_of_a_validated_run_say_so(add_run: AddRun, tmp_path: Path) -> None:
    history = [{"epoch": epoch, "train/accuracy": 0.5, "val/accuracy": epoch / 10} for epoch in (1, 2)]
    settings = {"seed": 1, "data": {"val_fraction": 0.1}}
    add_run(tmp_path, "fm", 1, 0.9, settings=settings, history=history, metrics={"val/accuracy": 0.2}, epochs=2)
    figure = curves(tmp_path)
    assert [ax.get_title() for ax in figure.axes] == [
        "Training accuracy",
        "Validation accuracy",
        "Validation accuracy after the last epoch",
    ]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [10, 20]


def test_an_ablation_is_drawn_against_its_setting_in_numbers(add_run: AddRun, tmp_path: Path) -> None:
    for gain, seed in itertools.product((2, 0.5, 10), (1, 2)):
        add_run(tmp_path, "fm", seed, 0.5 + gain / 100, settings={"seed": seed, "arch": {"vote_gain": gain}})
    ((name, figure),) = setting_figures(panel_of(tmp_path)).items()
    (ax,) = figure.axes
    assert name == SETTINGS
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "2", "10"]
    left, middle, right = ax.get_xticks()
    assert (middle - left) / (right - left) == pytest.approx(np.log(4) / np.log(20)), "on a logarithmic axis"
    assert "logarithmic" in ax.get_xlabel()
    assert dots(figure, "o") == pytest.approx([50.5, 50.5, 52, 52, 60, 60])


def test_a_factorial_shows_every_run_in_each_of_its_parts(factorial: Path) -> None:
    figures = setting_figures(panel_of(factorial))
    assert list(figures) == [SETTINGS, COMBINATIONS]
    effects, combinations = figures.values()
    assert [ax.get_title() for ax in effects.axes][:3] == ["router", "vote_gain", "weight_init"]
    assert len(dots(effects, "o")) == 3 * 12
    assert dots(effects, "x") == pytest.approx([10] * 3 * 4)
    assert [ax.get_title(loc="left") for ax in combinations.axes] == ["FM", "EM (3)"]
    assert len(dots(combinations, "o")) == 12
    assert len(dots(combinations, "x")) == 4
    for figure in figures.values():
        assert_nothing_is_cut(figure)


def test_means_of_a_factorial_are_those_of_its_levels(factorial: Path) -> None:
    effects = setting_figures(panel_of(factorial))[SETTINGS]
    labels = [label.get_text().split("\n") for label in effects.axes[1].get_xticklabels()]
    assert labels == [
        ["0.25", "mean 80.4"],
        ["1.0", "mean 45.6", "learned 81.2", "4 of 8 failed"],
    ]


def test_runs_that_crashed_are_counted(crash: Callable[..., None], factorial: Path) -> None:
    crash(next(factorial.glob("digits/capsnet/em/*")))
    for figure in setting_figures(panel_of(factorial)).values():
        assert "(1 run crashed)" in figure.get_suptitle()


def test_an_experiment_keeps_no_figure_that_it_no_longer_has(add_run: AddRun, factorial: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    add_run(tmp_path / "plain", "fm", 1, 0.9, epochs=2)
    write_figures(Comparison.of(tmp_path / "plain", protocol), folder)
    assert {path.name for path in folder.iterdir()} == {"curves.png", "curves.svg"}
    write_figures(Comparison.of(factorial, protocol), folder)
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{end}" for name in (SETTINGS, COMBINATIONS) for end in ("png", "svg")
    }


def test_dollars_in_a_name_are_no_formula(add_run: AddRun, tmp_path: Path) -> None:
    for router, loss in (("$_$", "margin"), ("$_$", "$^$"), ("fm", "margin")):
        add_run(tmp_path / "demo", router, 1, 0.9, loss=loss, data_title="$x_$")
    write_figures(Comparison.of(tmp_path / "demo", protocol), tmp_path)
    written = (tmp_path / "settings.svg").read_text()
    assert all(name in written for name in ("$_$", "$^$", "$x_$"))


def test_an_svg_follows_the_dark_mode_of_its_reader(tmp_path: Path) -> None:
    write_figure(Figure(figsize=(1, 1)), tmp_path, "empty")
    text = (tmp_path / "empty.svg").read_text()
    assert text.count("prefers-color-scheme: dark") == 1


def test_what_was_measured_in_no_common_epoch_leaves_its_axes_empty(add_run: AddRun, tmp_path: Path) -> None:
    for seed, measured in ((1, 1), (2, 2)):
        history = [{"epoch": epoch, "train/accuracy": 0.5} for epoch in range(1, 4)]
        history[measured - 1]["test/accuracy"] = 0.9
        add_run(tmp_path, "fm", seed, 0.9, history=history, metrics={"test/accuracy": 0.9}, epochs=3)
    assert_nothing_is_cut(curves(tmp_path))


def test_a_router_has_one_color_in_both_protocols(add_paper_run: AddRun, tmp_path: Path) -> None:
    for experiment, routers in (("fig4", ("fm", "dynamic")), ("fig4_authors", ("dynamic", "fm_raw"))):
        for router in routers:
            changes = {"optim.optimizer.lr": 0.002} if experiment == "fig4" else {}
            add_paper_run(tmp_path, experiment, router, 1, 0.9, settings=changes)
    panels = Comparison.of(tmp_path / "fig4", protocol).panels
    found = colors(panels)
    by_router = {
        one.row: {found[other.label] for panel in panels for other in panel.conditions if other.row == one.row}
        for panel in panels
        for one in panel.conditions
    }
    assert [len(by_router[router]) for router in ("fm", "dynamic")] == [1, 1]
    assert by_router["fm"] != by_router["dynamic"]
    assert [next(iter(in_order(panel)))[0].partition(" ")[0] for panel in panels] == ["FM", "FM"]
