"""A sweep as a whole: which runs it asks for, and what became of them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from capsbench.experiments import Identity, State

AXES = ("experiment", "data", "arch", "router", "seed")


@dataclass(frozen=True)
class Planned:
    """A run that a sweep asks for.

    Attributes:
        identity: of the run.
        folder: where it lives, or will.
        others: what was set for it beside the axes: "arch.vote_gain=0.25".
    """

    identity: Identity
    folder: Path
    others: str


def plan(loader: ConfigLoader, overrides: list[str]) -> list[Planned]:
    """The runs that `capsbench train -m` with these overrides asks for, in its order.

    The sweep of the chosen experiment (`hydra.sweeper.params` in its file) counts, and overrides go before it, as in
    Hydra's own sweeper, which is asked.

    Args:
        loader: of the configuration.
        overrides: as on the command line: `experiment=table3 seed=1,2`.
    """
    parser = OverridesParser.create(config_loader=loader)
    chosen = [
        override.input_line or "" for override in parser.parse_overrides(overrides) if not override.is_sweep_override()
    ]
    experiment = loader.load_configuration("train", overrides=chosen, run_mode=RunMode.MULTIRUN)
    own = [f"{key}={value}" for key, value in (experiment.hydra.sweeper.get("params") or {}).items()]
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*own, *overrides]), max_batch_size=None)
    return [_planned(loader, job) for job in jobs]


def _planned(loader: ConfigLoader, job: list[str]) -> Planned:
    config = loader.load_configuration("train", overrides=job, run_mode=RunMode.RUN)
    choices = dict(config.hydra.runtime.choices)
    with _as_job(config), open_dict(config):
        del config["hydra"]
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    identity = Identity.of(resolved, choices)
    others = [word for word in job if word.partition("=")[0] not in AXES]
    return Planned(identity, identity.folder(config.output_dir), " ".join(others))


class _as_job:
    """For a while, let `${hydra:…}` see a job's configuration."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config

    def __enter__(self) -> None:
        self.before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(self.config.copy())

    def __exit__(self, *_: object) -> None:
        HydraConfig.instance().cfg = self.before


class SweepSummary(Callback):
    """At the end of a sweep: name the runs that failed, and end the command with exit code 1 if there are any."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Look at the folder of each run of the sweep."""
        runs = plan(GlobalHydra.instance().config_loader(), list(config.hydra.overrides.task))
        states = [(run, State.of(run.folder)) for run in runs]
        elsewhere = [run for run, state in states if state.name == "running"]
        if elsewhere:
            print(f"{len(elsewhere)} of {len(runs)} runs are being trained by another process")
        failed = [(run, state) for run, state in states if state.name == "failed"]
        if failed:
            sys.stdout.flush()
            for run, state in failed:
                print(f"failed: {run.folder}: {state.cause}", file=sys.stderr)
            sys.exit(f"error: {len(failed)} of {len(runs)} runs failed; retry_failed=true tries them again")
