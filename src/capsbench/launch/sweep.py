"""A sweep: which runs it asks for, and what became of them."""

import logging
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from capsbench import signals
from capsbench.data.files import at_home
from capsbench.launch.config import Composer, RunConfig
from capsbench.launch.devices import as_overrides, nodes_of
from capsbench.launch.errors import fail
from capsbench.launch.nodes import needs_slurm
from capsbench.launch.slurm_queue import states_of
from capsbench.launch.wandb import Loggers, as_words, settle
from capsbench.launch.workers import join_sweep, stopped_together
from capsbench.runs import Identity, NamedRuns, RunFolder, State
from capsbench.runs.data_changes import DataChanges
from capsbench.signals import Interrupted

log = logging.getLogger(__name__)

SHOWN = 2
"""Causes that are told at the end of a sweep."""
AXES = ("experiment", "data", "arch", "router", "seed")
OF_LAUNCHING = ("launcher=", "hydra.", "hydra/", "gpus_per_run=", "wait=", "retry_failed=")
"""Beginnings of settings that do not say which runs there are."""
PLAIN_PATH = re.compile(r"(?<==)'([\w.-]*/[\w./-]*)'$")
"""A value that was quoted for Hydra and need not be."""
HERE = ("BasicLauncher", "JoblibLauncher")
"""Launchers that train on the machine where the sweep was planned."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that a command asks for.

    Attributes:
        overrides: of this run alone: ("router=dynamic", "seed=2").
        identity: of the run.
        folder: of the run, which need not exist.
        named: the list that the run is to be in, if it was asked for by a name.
        loggers: where its metrics go.
        nodes: how many machines train it.
        data: its settings of data, also those that change no numbers.
    """

    overrides: tuple[str, ...]
    identity: Identity
    folder: RunFolder
    named: NamedRuns | None
    loggers: Loggers = field(default_factory=dict, compare=False)
    nodes: int = 1
    data: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, run: RunConfig, overrides: Sequence[str]) -> "PlannedRun":
        """The run of a composed configuration.

        Raises:
            ValueError: its seed or its name is not one.
        """
        identity = Identity.of({**run.resolved, "devices": run.devices}, run.choices)
        outputs, name = at_home(run.resolved["output_dir"]), run.resolved["name"]
        named = None if name is None else NamedRuns(outputs, str(name))
        folder, loggers = RunFolder(identity.folder(outputs)), run.resolved.get("logger") or {}
        nodes, data = nodes_of(run.resolved["trainer"]), run.resolved["data"]
        return cls(tuple(overrides), identity, folder, named, loggers, nodes, data)

    @property
    def others(self) -> str:
        """What was set beside the axes: "arch.vote_gain=0.25"."""
        return " ".join(word for word in self.overrides if word.partition("=")[0] not in (*AXES, "name"))


def plan(loader: ConfigLoader, overrides: Sequence[str]) -> list[PlannedRun]:
    """The runs that `capsbench train -m` with these overrides asks for, in its order, each once.

    The chosen experiment's sweep (`hydra.sweeper.params` in its file) counts; command-line settings take precedence.

    Args:
        loader: of the configuration.
        overrides: as on the command line: `experiment=table3 seed=1,2`.

    Raises:
        ValueError: a setting has no effect, the wrong type, or is out of its range; or they ask for no run.
        HydraException, OmegaConfBaseException: no such choice or setting.
    """
    composer = Composer(loader)
    jobs = _jobs(composer, overrides)
    runs = [PlannedRun.of(composer.compose(job), job) for job in jobs]
    if len({run.named for run in runs}) > 1:
        raise ValueError("name must be one name for all runs of a sweep; it cannot be swept over")
    return list({run.folder: run for run in reversed(runs)}.values())[::-1]


def _jobs(composer: Composer, overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run."""
    (jobs,) = BasicSweeper.split_arguments(grid(composer, overrides), max_batch_size=None)
    return jobs


def grid(composer: Composer, overrides: Sequence[str]) -> list[Override]:
    """Overrides as on the command line, after those of the chosen experiment's own sweep; the last of a key counts.

    Raises:
        ValueError: one has no value at all.
    """
    parsed = composer.parser.parse_overrides(list(overrides))
    for override in parsed:
        if override.is_discrete_sweep() and not any(True for _ in override.sweep_iterator()):
            raise ValueError(f"{override.input_line} is no value at all, so the sweep asks for no run")
    single = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
    experiment = composer.loader.load_configuration("train", overrides=single, run_mode=RunMode.MULTIRUN)
    own = [f"{key}={value}" for key, value in (experiment.hydra.sweeper.get("params") or {}).items()]
    return composer.parser.parse_overrides([*own, *overrides])


def asked_again(loader: ConfigLoader, overrides: Sequence[str]) -> str:
    """The words of a shell that ask another command for the same runs.

    Args:
        loader: of the configuration.
        overrides: as on the command line.
    """
    own = [each.path for each in loader.get_search_path().get_path() if each.provider == "command-line"]
    words = [word for path in own for word in ("--config-dir", path.removeprefix("file://"))]
    settings = [PLAIN_PATH.sub(r"\1", word) for word in overrides if not word.lstrip("+~").startswith(OF_LAUNCHING)]
    return shlex.join([*settings, *words])


def keep_names(runs: Sequence[PlannedRun]) -> None:
    """List runs under the name that they were asked for by, if any."""
    for named in {run.named for run in runs if run.named}:
        named.add(run.folder for run in runs if run.named == named)


class Sweep:
    """The runs of one `capsbench train -m`.

    Args:
        runs: what was asked for.
        asked: the words of a shell that ask `capsbench status` for them.

    Attributes:
        outdated: how many were finished before their data changed.
    """

    def __init__(self, runs: Sequence[PlannedRun], asked: str = "") -> None:
        self.runs = runs
        self.asked = asked
        self.outdated = 0

    def launch(self, launcher: Any, batch_size: int | None) -> list[Any]:
        """Hand the runs that are not finished to a launcher; then list those that failed.

        Args:
            launcher: Hydra's, set up.
            batch_size: how many runs the launcher gets at a time; None: all.

        Raises:
            SystemExit: a run failed.
            ValueError: a run asks for several machines, and the launcher starts it on one.
            Interrupted: a signal came, and the runs that were being trained have saved; jobs of a cluster go on.
        """
        keep_names(self.runs)
        failed_before = {run.folder: run.folder.failed_at for run in self.runs}
        changes, finished = DataChanges(), [run for run in self.runs if run.folder.is_finished]
        self.outdated = sum(changes.tell(run.folder, run.data) for run in finished)
        if hasattr(launcher, "joblib"):
            launcher.joblib["initializer"] = join_sweep
        elsewhere = type(launcher).__name__ not in HERE  # on machines with other devices, perhaps
        unfinished = [run for run in self.runs if not run.folder.is_finished]
        most = max((run.nodes for run in unfinished), default=1)
        if most > 1 and not hasattr(launcher, "spans_nodes"):
            raise needs_slurm(most)
        logged = settle([(run.loggers, run.folder.path) for run in unfinished], elsewhere=elsewhere)
        jobs = [
            [
                *run.overrides,
                *(as_overrides(run.identity.settings["devices"], run.nodes) if elsewhere else []),
                *as_words(settings),
            ]
            for run, settings in zip(unfinished, logged, strict=True)
        ]
        of_cluster = hasattr(launcher, "planned")  # one of ours, which sees to its runs itself
        if of_cluster:
            launcher.planned = unfinished
        results = []
        try:
            with stopped_together([] if of_cluster else [run.folder for run in self.runs]):
                for start in range(0, len(jobs), batch_size or max(1, len(jobs))):
                    batch = jobs[start : start + batch_size] if batch_size else jobs
                    results += launcher.launch(batch, initial_job_idx=start)
        except BrokenExecutor:
            self._report_killed()
        except SystemExit as error:  # Ray makes another one of ours
            number = error.signal_number if isinstance(error, Interrupted) else signals.received()
            if number is None:
                raise
            left = self._jobs_left() if of_cluster and not launcher.stops_runs else self._left()
            raise Interrupted(number, f"{Interrupted(number)}: {left}") from error
        for result in results:
            _ = result.return_value  # raises what stopped a job from outside the run
        self._report(failed_before, getattr(launcher, "causes", {}))
        return results

    def _states(self, stopped: Mapping[RunFolder, str] = MappingProxyType({})) -> list[tuple[PlannedRun, State]]:
        states = [(run, State.of(run.folder)) for run in self.runs]
        return [
            (run, replace(state, name="interrupted", cause=stopped[run.folder]) if run.folder in stopped else state)
            for run, state in states
        ]

    def _report(self, failed_before: Mapping[RunFolder, datetime | None], stopped: Mapping[RunFolder, str]) -> None:
        """List what came to no end, and say how to go on.

        Args:
            failed_before: when runs failed before this sweep.
            stopped: what stopped runs from outside, where their launcher tells.
        """
        states = self._states(stopped)
        elsewhere = sum(state.name == "running" for _, state in states)
        if elsewhere:
            print(f"{elsewhere} of {len(states)} runs are being trained by another process")
        failed = [(run, state) for run, state in states if state.name not in ("done", "running")]
        if not failed:
            print(f"{len(states) - elsewhere} of {len(states)} runs are finished")
            if self.outdated:
                fail(f"{self.outdated} of {len(states)} runs were finished before their data changed, see above")
            return
        _list(failed)
        causes = {_cause(state) for _, state in failed}
        why = f", each because {causes.pop()}" if len(causes) == 1 < len(failed) else ""
        old = [at for run, _ in failed if (at := run.folder.failed_at) and at == failed_before[run.folder]]
        if old:
            why += f"; {len(old)} of them before (last on {max(old):%Y-%m-%d}), which were not tried again"
        sticks = any(state.name == "failed" for _, state in failed)
        again = "retry_failed=true tries them again" if sticks else "mend the cause, then give the command again"
        if interrupted := sum(run.folder in stopped for run, _ in failed):
            done = len(states) - elsewhere - len(failed)
            others = f", {len(failed) - interrupted} failed{why}" if len(failed) > interrupted else ""
            again = "the same command continues them" + (f"; {again}" if others else "")
            fail(f"{done} of {len(states)} runs are finished, {interrupted} interrupted{others}; {again}")
        fail(f"{len(failed)} of {len(states)} runs failed{why}; {again}")

    def _left(self) -> str:
        """What is left to do, in one line."""
        unfinished = sum(not run.folder.is_finished for run in self.runs)
        if not unfinished:
            return f"all {len(self.runs)} runs are finished"
        return f"{unfinished} of {len(self.runs)} runs are not finished; the same command continues them"

    def _jobs_left(self) -> str:
        """What goes on without this process, and how to watch and to end it."""
        in_queue = sum(state.job is not None for state in states_of([run.folder for run in self.runs]))
        if not in_queue:
            return self._left()
        jobs = f"the jobs of {in_queue} runs go on without this command"
        return f"{jobs}\n  watch them:  capsbench status {self.asked}\n  cancel them: capsbench cancel {self.asked}"

    def _report_killed(self) -> None:
        """List unfinished runs after a worker was killed."""
        states = self._states()
        unfinished = [(run, state) for run, state in states if state.name != "done"]
        _list(unfinished)
        fail(
            f"a worker process was killed (often out of memory); the launcher stopped the others; {self._left()}, "
            "hydra.launcher.n_jobs=1 one at a time"
        )


def _list(runs: Sequence[tuple[PlannedRun, State]]) -> None:
    """Name the runs, those with one cause in one line."""
    sys.stdout.flush()
    alike: dict[str, list[tuple[PlannedRun, State]]] = {}
    for run, state in runs:
        alike.setdefault(_cause(state), []).append((run, state))
    for cause, ((run, state), *others) in list(alike.items())[:SHOWN]:
        kind = "failed" if state.name == "missing" and state.cause else state.name
        name = " ".join(run.overrides) if kind == "missing" else str(run.folder)
        more = f" and {len(others)} more" if others else ""
        print(f"{kind}: {name}{more}: {cause}", file=sys.stderr)
    if len(alike) > SHOWN:
        print(f"and {len(alike) - SHOWN} other causes; capsbench status shows each run", file=sys.stderr)


def _cause(state: State) -> str:
    return state.cause or ("it did not begin" if state.name == "missing" else "it was stopped")
