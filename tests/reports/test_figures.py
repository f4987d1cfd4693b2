"""Figures show all that they are told to."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg

from capsbench.reports.comparison import panels
from capsbench.reports.figures import colors, training_curves
from capsbench.reports.runs import load_runs

AddRun = Callable[..., Path]


def test_a_legend_of_long_names_is_within_its_figure(add_run: AddRun, tmp_path: Path) -> None:
    for router in ("fm", "dynamic", "em", "dynamic1"):
        settings = {
            "router": {"iterations": len(router)},
            "data": {"a_setting_of_a_long_name": f"{router}-of-this-kind"},
        }
        for seed in (1, 2):
            add_run(tmp_path, router, seed, 0.9, settings=settings, epochs=3)
    found = panels(load_runs(tmp_path))
    figure = training_curves(found, colors(found))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (legend,) = figure.legends
    box = legend.get_window_extent(renderer)
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    axes = figure.axes[0].get_window_extent(renderer)
    assert box.y1 <= axes.y0
    assert axes.height > 0.5 * figure.bbox.height


def test_what_was_measured_once_is_a_point(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.9), (2, 0.94)):
        add_run(tmp_path, "fm", seed, accuracy, epochs=1)
    found = panels(load_runs(tmp_path))
    test_axes = training_curves(found, colors(found)).axes[1]
    (point, *_), *_ = [container.lines for container in test_axes.containers]
    assert point.get_marker() == "o"
    assert point.get_ydata().tolist() == [92.0]
