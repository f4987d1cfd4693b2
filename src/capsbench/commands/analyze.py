"""`capsbench analyze`: a Hydra app that looks into trained runs."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from omegaconf import MISSING, DictConfig, OmegaConf

from capsbench.analysis import measure_equivariance, measure_invariance, write_pictures
from capsbench.analysis.equivariance import FEWEST_EXAMPLES
from capsbench.analysis.invariance import check_steps
from capsbench.data import DataError
from capsbench.data.files import written_atomically
from capsbench.launch.build import TrainedRun, find_runs, restore
from capsbench.launch.errors import describe, one_line, plain_exit
from capsbench.reports.comparison import panels
from capsbench.reports.equivariance import EQUIVARIANCE_FILE, equivariance_table, write_equivariance
from capsbench.reports.formats import say
from capsbench.reports.runs import Run
from capsbench.runs.train_and_test import PICTURES

HELP = """Look into trained runs: one (run=DIR), several (run=[DIR,DIR]), or all finished ones below a folder.
Runs below a folder that an analysis does not fit (no decoder to draw with, no single shapes) are named and left out.

  capsbench analyze reconstructions run=DIR                 inputs and what the decoder draws of them; pose tours
  capsbench analyze reconstructions run=DIR classes=[7,0]   drawn from the poses of these classes
  capsbench analyze equivariance run=outputs/table3         what poses know of rotation, shear, scale and shift, and
                                                            what each does to accuracy; MNIST-like sets

== The configuration ==
$CONFIG
"""
ConfigStore.instance().store(
    name="analyze",
    node={
        "defaults": [{"override hydra/job_logging": "stdout"}, "_self_"],
        "name": MISSING,
        "run": MISSING,
        "classes": None,
        "examples": 5000,
        "curve_examples": 1000,
        "curve_steps": 13,
        "data_dir": "${oc.env:CAPSBENCH_DATA,null}",
        "hydra": {
            "output_subdir": None,
            "run": {"dir": "."},
            "help": {"app_name": "capsbench analyze", "template": HELP},
        },
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="analyze")
@plain_exit
def app(config: DictConfig) -> None:
    """Do one of ANALYSES on each run, then what it does of all; runs that it does not fit are told and left out.

    Raises:
        ValueError: it fits none of the runs, or not one that was named itself.
    """
    if config.name not in ANALYSES:
        raise ValueError(f"there is no analysis {config.name}; there are: {', '.join(ANALYSES)}")
    check_settings(config)
    analysis, summary = ANALYSES[config.name]
    places = [Path(str(place)) for place in (config.run if OmegaConf.is_list(config.run) else [config.run])]
    folders = list(dict.fromkeys(folder for place in places for folder in find_runs(place)))
    runs: list[Run] = []
    unfit: dict[Path, str] = {}
    for folder in folders:
        try:
            runs.append(analysis(folder, config))
        except (ValueError, DataError, InstantiationException, OSError) as error:
            cause = describe(error)
            unfit[folder] = cause if str(folder) in cause else f"{folder}: {cause}"
            if len(folders) > 1:
                say(f"left out: {unfit[folder]}")
    if runs:
        summary(runs)
    named = [folder for folder in unfit if folder in places]
    if named or not runs:
        first = next(iter(named or unfit))
        others = f" ({len(unfit)} of {len(folders)} runs were left out)" if len(folders) > 1 else ""
        raise ValueError(f"{unfit[first]}{others}")


def check_settings(config: DictConfig) -> None:
    """Make sure that numbers are numbers in their range, before any run is looked into.

    Raises:
        ValueError: one is not.
    """
    for key, least in (("examples", FEWEST_EXAMPLES), ("curve_examples", 1), ("curve_steps", 3)):
        value = config[key]
        if not _is_whole(value) or value < least:
            raise ValueError(f"{key} must be a whole number of at least {least}, got {value}")
    check_steps(config.curve_steps)
    classes = config.classes
    if classes is not None and not (OmegaConf.is_list(classes) and all(map(_is_whole, classes))):
        raise ValueError(f"classes must be a list of whole numbers such as [7] or, of two digits, [7,0], got {classes}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def reconstructions(folder: Path, config: DictConfig) -> Run:
    """Write the pictures of a run."""
    classes = None if config.classes is None else list(config.classes)
    place = PICTURES if classes is None else f"{PICTURES}-{'-'.join(map(str, classes))}"
    result, data, module = _restore(folder, config)
    for path in write_pictures(module, data, folder / place, classes):
        say(str(path))
    return Run(result, folder)


def equivariance(folder: Path, config: DictConfig) -> Run:
    """Measure a run, write equivariance.json into its folder."""
    result, data, module = _restore(folder, config)
    measured = {
        "equivariance": {
            predictor: {parameter: r2._asdict() for parameter, r2 in by_parameter.items()}
            for predictor, by_parameter in measure_equivariance(module, data, config.examples).items()
        },
        "invariance": {
            parameter: asdict(curve)
            for parameter, curve in measure_invariance(module, data, config.curve_examples, config.curve_steps).items()
        },
        "examples": config.examples,
        "curve_examples": config.curve_examples,
    }
    with written_atomically(folder / EQUIVARIANCE_FILE) as path:
        path.write_text(json.dumps(measured, indent=2))
    say(f"{folder}: {EQUIVARIANCE_FILE}")
    return Run(result, folder)


def compare_equivariance(runs: list[Run]) -> None:
    """Print the table of what was measured, and write figures that compare the runs beside them."""
    found = panels(runs)
    for panel in found:
        say(panel.title)
        say(equivariance_table(panel).to_string(index=False))
    for path in write_equivariance(found, Path(os.path.commonpath([run.folder for run in runs]))):
        say(str(path))


ANALYSES: dict[str, tuple[Callable[[Path, DictConfig], Run], Callable[[list[Run]], None]]] = {
    "reconstructions": (reconstructions, lambda runs: None),
    "equivariance": (equivariance, compare_equivariance),
}
"""What is done of each run, and then of all."""


def _restore(folder: Path, config: DictConfig) -> TrainedRun:
    run = restore(folder, config.data_dir)
    run.module.to("cuda" if torch.cuda.is_available() else "cpu")
    return run


def main() -> None:
    """Run the app; the first argument may be the analysis's name alone."""
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"name={sys.argv[1]}"
    with one_line():
        app()
