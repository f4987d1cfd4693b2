"""`capsbench analyze`: looks into trained runs."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.errors import InstantiationException
from omegaconf.errors import OmegaConfBaseException

from capsbench.analysis import measure_equivariance, measure_invariance, write_pictures
from capsbench.analysis.answers import Answers, answers, features, write_errors, write_features
from capsbench.analysis.equivariance import FEWEST_EXAMPLES
from capsbench.analysis.invariance import check_steps
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.predict import load_network
from capsbench.commands.settings import Analyze
from capsbench.data import DataError, ImageDataModule
from capsbench.data.files import written_atomically
from capsbench.launch.build import TrainedRun, find_runs, restore
from capsbench.launch.errors import describe, fail
from capsbench.reports.comparison import panels
from capsbench.reports.equivariance import equivariance_table, write_equivariance
from capsbench.reports.formats import say
from capsbench.reports.measured import PAIRS
from capsbench.reports.runs import Run
from capsbench.routing import NonFiniteError
from capsbench.runs import Result, ResultError, RunFolder

Made = TypeVar("Made")
FORMATS = ("npz", "parquet")
SHOWN = 10
"""Errors that are printed."""
UNFIT = (ValueError, DataError, NonFiniteError, InstantiationException, OmegaConfBaseException, OSError)
"""What a run raises that cannot be looked into."""


def main(arguments: Arguments) -> None:
    """Look into the runs that the settings name.

    Raises:
        ValueError: the analysis fits none of the runs, or not one that was named itself.
    """
    settings = parse_settings(Analyze, arguments.settings)
    check_settings(settings)
    analysis, summary = ANALYSES[str(arguments.action)]
    for_each_run(settings.run, lambda folder: analysis(folder, settings, arguments.config_dir), summary)


def for_each_run(
    named: Any,
    look: Callable[[RunFolder], Made],
    summary: Callable[[list[Made]], None],
    find: Callable[[Path], list[RunFolder]] = find_runs,
) -> None:
    """Look into each run; name those that cannot be looked into, and leave them out.

    Args:
        named: a run's folder, a folder of runs, or a list of these.
        look: what is done of each run.
        summary: what is done of all together, unless there are none.
        find: lists the runs of a folder.

    Raises:
        ValueError: no run could be looked into, or not one that was named itself.
        CommandError: the result of a run cannot be believed.
    """
    if named is None:
        raise ValueError("run must be given: run=DIR, or run=outputs/EXPERIMENT for all runs below it")
    places = [Path(str(place)) for place in (named if isinstance(named, list) else [named])]
    folders = list(dict.fromkeys(folder for place in places for folder in find(place)))
    runs: list[Made] = []
    unfit: dict[RunFolder, str] = {}
    damaged = 0
    for folder in folders:
        try:
            runs.append(look(folder))
        except UNFIT as error:
            cause = describe(error)
            damaged += isinstance(error, ResultError)
            unfit[folder] = cause if str(folder) in cause else f"{folder}: {cause}"
            if len(folders) > 1:
                say(f"left out: {unfit[folder]}")
    if runs:
        summary(runs)
    asked = [folder for folder in unfit if folder.path in places]
    if asked or not runs:
        first = next(iter(asked or unfit))
        others = f" ({len(unfit)} of {len(folders)} runs were left out)" if len(folders) > 1 else ""
        raise ValueError(f"{unfit[first]}{others}")
    if damaged:
        fail(f"{damaged} of {len(folders)} runs were left out, because their results cannot be believed")


def check_settings(settings: Analyze) -> None:
    """Check settings before any run is looked into.

    Raises:
        ValueError: one is not.
        ModuleNotFoundError: format is parquet, and pyarrow is not installed.
    """
    for key, least in (("examples", FEWEST_EXAMPLES), ("curve_examples", 1), ("curve_steps", 3)):
        value = getattr(settings, key)
        if value < least:
            raise ValueError(f"{key} must be a whole number of at least {least}, got {value}")
    check_steps(settings.curve_steps)
    if settings.format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {settings.format}")
    if settings.format == "parquet" and find_spec("pyarrow") is None:
        raise ModuleNotFoundError("parquet needs pyarrow", name="pyarrow")
    classes = settings.classes
    if classes is not None and not (isinstance(classes, list) and all(map(_is_class, classes))):
        raise ValueError(f"classes must be a list of names or numbers such as [7] or [cat], got {classes}")


def _is_class(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def reconstructions(folder: RunFolder, settings: Analyze, config_dir: str | None) -> Run:
    """Write the pictures of a run."""
    result, data, module = _restore(folder, settings, "validate", config_dir)
    classes = None if settings.classes is None else [data.number_of(name) for name in settings.classes]
    place = folder.pictures
    if classes is not None:
        place = place.with_name(f"{place.name}-{'-'.join(map(str, classes))}")
    for path in write_pictures(module, data, place, classes):
        say(str(path))
    return Run.of(result, folder)


def equivariance(folder: RunFolder, settings: Analyze, config_dir: str | None) -> Run:
    """Measure a run, write equivariance.json into its folder."""
    result, data, module = _restore(folder, settings, "test", config_dir)
    curves = measure_invariance(module, data, settings.curve_examples, settings.curve_steps)
    measured = {
        "measure": PAIRS,
        "equivariance": {
            predictor: {parameter: r2._asdict() for parameter, r2 in by_parameter.items()}
            for predictor, by_parameter in measure_equivariance(module, data, settings.examples).items()
        },
        "invariance": {parameter: asdict(curve) for parameter, curve in curves.items()},
        "examples": settings.examples,
        "curve_examples": settings.curve_examples,
    }
    with written_atomically(folder.equivariance) as path:
        path.write_text(json.dumps(measured, indent=2))
    say(str(folder.equivariance))
    return Run.of(result, folder)


def errors(folder: RunFolder, settings: Analyze, config_dir: str | None) -> Run:
    """Draw the most confident errors of a run."""
    result, data, found = _ask(folder, settings, config_dir)
    classes = None if settings.classes is None else [data.number_of(name) for name in settings.classes]
    path = folder.path / "errors.png"
    table = write_errors(found, data, path, classes)
    asked = len(found.labels) if classes is None else int(torch.isin(found.labels, torch.tensor(classes)).sum())
    say(f"{folder}: {len(table):,} of {asked:,} test images are taken for another class")
    for row in table[:SHOWN].to_dict("records"):
        say(f"  image {row['image']}: {row['class']} → {row['taken for']}, {row['score']:.3f}")
    if len(table):
        say(str(path))
    return Run.of(result, folder)


def poses(folder: RunFolder, settings: Analyze, config_dir: str | None) -> Run:
    """Write what the class capsules of a run say of the test images, as features."""
    result, data, found = _ask(folder, settings, config_dir)
    table = features(found, data.names)
    path = folder.path / f"poses.{settings.format}"
    write_features(table, path)
    columns = list(table.columns)
    names = f"label, predicted, {columns[2]} …, {columns[2 + len(data.names)]} … {columns[-1]}"
    where = "" if settings.format == "parquet" else "; in the file: features, their columns, label, predicted"
    say(f"{len(table):,} test images, {len(columns)} columns: {names}{where}")
    say(str(path))
    return Run.of(result, folder)


def compare_equivariance(runs: list[Run]) -> None:
    """Print the table of what was measured, and write figures that compare the runs beside them."""
    found = panels(runs)
    for panel in found:
        say(panel.title)
        say(equivariance_table(panel).to_string(index=False))
    for path in write_equivariance(found, Path(os.path.commonpath([run.folder for run in runs]))):
        say(str(path))


ANALYSES: dict[str, tuple[Callable[[RunFolder, Analyze, str | None], Run], Callable[[list[Run]], None]]] = {
    "reconstructions": (reconstructions, lambda runs: None),
    "equivariance": (equivariance, compare_equivariance),
    "errors": (errors, lambda runs: None),
    "poses": (poses, lambda runs: None),
}
"""What is done of each run, and then of all."""


def _ask(folder: RunFolder, settings: Analyze, config_dir: str | None) -> tuple[Result, ImageDataModule, Answers]:
    result, data, _ = restore(folder, settings.data_dir or os.environ.get("CAPSBENCH_DATA"), "test", config_dir)
    classifier = load_network(str(folder), config_dir).to("cuda" if torch.cuda.is_available() else "cpu")
    return result, data, answers(classifier, data)


def _restore(folder: RunFolder, settings: Analyze, stage: str, config_dir: str | None) -> TrainedRun:
    run = restore(folder, settings.data_dir or os.environ.get("CAPSBENCH_DATA"), stage, config_dir)
    run.module.to("cuda" if torch.cuda.is_available() else "cpu")
    return run
