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
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console

from capsbench.analysis import measure_equivariance, measure_invariance, write_pictures
from capsbench.assemble import TrainedRun, find_runs, restore
from capsbench.errors import one_line, plain_exit
from capsbench.experiments.run import PICTURES
from capsbench.reports.comparison import Run, panels
from capsbench.reports.equivariance import EQUIVARIANCE_FILE, equivariance_figure, equivariance_table, invariance_figure
from capsbench.reports.figures import colors

HELP = """Look into trained runs: one (run=DIR), several (run=[DIR,DIR]), or all finished ones below a folder.

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
    """Do one of ANALYSES on each run."""
    name = config.name
    if name not in ANALYSES:
        raise ValueError(f"there is no analysis {name}; there are: {', '.join(ANALYSES)}")
    places = config.run if OmegaConf.is_list(config.run) else [config.run]
    folders = [folder for place in places for folder in find_runs(Path(place))]
    ANALYSES[name](folders, config)


def reconstructions(folders: list[Path], config: DictConfig) -> None:
    """Write the pictures of each run."""
    classes = None if config.classes is None else list(config.classes)
    place = PICTURES if classes is None else f"{PICTURES}-{'-'.join(map(str, classes))}"
    for folder in folders:
        _, data, module = _restore(folder, config)
        for path in write_pictures(module, data, folder / place, classes):
            Console().print(str(path), soft_wrap=True)


def equivariance(folders: list[Path], config: DictConfig) -> None:
    """Measure each run, write equivariance.json into its folder, and figures that compare them beside them."""
    console = Console()
    runs = []
    for folder in folders:
        result, data, module = _restore(folder, config)
        measured = {
            "equivariance": {
                predictor: {parameter: r2._asdict() for parameter, r2 in by_parameter.items()}
                for predictor, by_parameter in measure_equivariance(module, data, config.examples).items()
            },
            "invariance": {
                parameter: asdict(curve)
                for parameter, curve in measure_invariance(
                    module, data, config.curve_examples, config.curve_steps
                ).items()
            },
            "examples": config.examples,
            "curve_examples": config.curve_examples,
        }
        (folder / EQUIVARIANCE_FILE).write_text(json.dumps(measured, indent=2))
        runs.append(Run(result, folder))
        console.print(f"{folder}: {EQUIVARIANCE_FILE}", soft_wrap=True)
    root = Path(os.path.commonpath(folders))
    for number, panel in enumerate(panels(runs)):
        console.print(panel.title)
        console.print(equivariance_table(panel).to_string(index=False), soft_wrap=True)
        suffix = f"-{number + 1}" if number else ""
        palette = colors([panel])
        for kind, draw in (("equivariance", equivariance_figure), ("invariance", invariance_figure)):
            draw(panel, palette).savefig(root / f"{kind}{suffix}.png", dpi=120)
            console.print(str(root / f"{kind}{suffix}.png"), soft_wrap=True)


ANALYSES: dict[str, Callable[[list[Path], DictConfig], None]] = {
    "reconstructions": reconstructions,
    "equivariance": equivariance,
}


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


if __name__ == "__main__":
    main()
