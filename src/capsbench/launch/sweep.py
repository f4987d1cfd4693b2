"""A sweep as a whole: which runs it asks for, and what became of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from capsbench.launch.config import check_settings
from capsbench.launch.errors import describe
from capsbench.runs import Identity, State

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
    return [_planned(loader, job) for job in _jobs(loader, overrides)]


def _jobs(loader: ConfigLoader, overrides: list[str]) -> list[list[str]]:
    """The overrides of each run."""
    parser = OverridesParser.create(config_loader=loader)
    chosen = [
        override.input_line or "" for override in parser.parse_overrides(overrides) if not override.is_sweep_override()
    ]
    experiment = loader.load_configuration("train", overrides=chosen, run_mode=RunMode.MULTIRUN)
    own = [f"{key}={value}" for key, value in (experiment.hydra.sweeper.get("params") or {}).items()]
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*own, *overrides]), max_batch_size=None)
    return jobs


def _planned(loader: ConfigLoader, job: list[str]) -> Planned:
    config = loader.load_configuration("train", overrides=job, run_mode=RunMode.RUN)
    choices = dict(config.hydra.runtime.choices)
    with _as_job(config), open_dict(config):
        del config["hydra"]
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        check_settings(config, loader)
    identity = Identity.of(resolved, choices)
    others = [word for word in job if word.partition("=")[0] not in AXES]
    return Planned(identity, identity.folder(config.output_dir), " ".join(others))


@contextmanager
def _as_job(config: DictConfig) -> Iterator[None]:
    """For a while, let `${hydra:…}` see a job's configuration."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config.copy())
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


class SweepSummary(Callback):
    """At the end of a sweep: name the runs that failed, and end the command with exit code 1 if there are any.

    Attributes:
        begun: the sweep that this process is at: the loader of its configuration and its overrides.
    """

    begun: ClassVar[tuple[ConfigLoader, list[str]] | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note what is asked for, should the launcher give up."""
        SweepSummary.begun = (GlobalHydra.instance().config_loader(), list(config.hydra.overrides.task))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Look at the folder of each run of the sweep."""
        outcomes = _outcomes()
        elsewhere = [name for name, state in outcomes if state.name == "running"]
        if elsewhere:
            print(f"{len(elsewhere)} of {len(outcomes)} runs are being trained by another process")
        failed = [(name, state) for name, state in outcomes if state.name not in ("done", "running")]
        if failed:
            _list(failed)
            causes = {_cause(state) for _, state in failed}
            why = f", each because {causes.pop()}" if len(causes) == 1 < len(failed) else ""
            sys.exit(f"error: {len(failed)} of {len(outcomes)} runs failed{why}; retry_failed=true tries them again")


def tell_of_broken() -> str:
    """List what a sweep lacks one of whose processes was killed, and say so in one line."""
    outcomes = _outcomes()
    lacking = [(name, state) for name, state in outcomes if state.name != "done"]
    _list(lacking)
    return (
        "a process of the sweep was killed, probably for want of memory, and the launcher stopped the others; "
        f"{len(lacking)} of {len(outcomes)} runs are not finished; the same command goes on with them, "
        "hydra.launcher.n_jobs=1 with one at a time"
    )


def _outcomes() -> list[tuple[str, State]]:
    """Each run of the sweep that this process is at: its folder, or its overrides where it has none, and its state."""
    if SweepSummary.begun is None:
        return []
    loader, overrides = SweepSummary.begun
    return [_outcome(loader, job) for job in _jobs(loader, overrides)]


def _outcome(loader: ConfigLoader, job: list[str]) -> tuple[str, State]:
    try:
        folder = _planned(loader, job).folder
    except Exception as error:
        return " ".join(job), State("failed", cause=describe(error))
    state = State.of(folder)
    return (" ".join(job) if state.name == "missing" else str(folder)), state


def _list(runs: list[tuple[str, State]]) -> None:
    sys.stdout.flush()
    for name, state in runs:
        print(f"{state.name}: {name}: {_cause(state)}", file=sys.stderr)


def _cause(state: State) -> str:
    return state.cause or ("it did not begin" if state.name == "missing" else "it was stopped")
