"""`capsbench train`: a Hydra app that trains one run, or a sweep of them."""

import logging
import math
import os
import sys
from functools import partial

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from capsbench.commands.arguments import import_beside, quoted, usage_error
from capsbench.data.files import DataError, written_atomically
from capsbench.launch.config import CONF, Composer
from capsbench.launch.errors import WANTS_TRACEBACK, describe, exit_code, fail
from capsbench.launch.nodes import Node, this_node
from capsbench.launch.output import unbreakable_output
from capsbench.launch.slurm_job import end_at_once_when_requeued
from capsbench.launch.sweep import PlannedRun, keep_names
from capsbench.launch.wandb import AGENT, settle
from capsbench.runs import LockedError, Result, RunFolder
from capsbench.runs.data_changes import DataChanges, finished_before_change
from capsbench.runs.measures import in_words
from capsbench.runs.state import Shown
from capsbench.signals import Interrupted, heeded, raise_if_received

log = logging.getLogger(__name__)

QUIET = ("hydra.job_logging.root.level=WARNING", "hydra.hydra_logging.root.level=WARNING")


def main(arguments: list[str]) -> None:
    """Run the command; Hydra reads its arguments."""
    setbase("1.3")
    parser = get_args_parser()
    parser.add_argument("--quiet", action="store_true", help="print the end only")
    parser.error = partial(usage_error, "train")  # type: ignore[method-assign]
    found = parser.parse_intermixed_args(arguments)
    found.overrides = [*quoted(found.overrides), *(QUIET if found.quiet else ())]
    import_beside(found.config_dir)
    _run_hydra(found, parser, job, str(CONF), "train")


@heeded()  # in a worker; otherwise the command does already
def job(config: DictConfig) -> float:
    """Train the run of a Hydra job; return its accuracy on the watched split, the objective of a sweep.

    In a sweep an error is a line in the log and NaN, so that Hydra goes on; the sweep lists what failed at its end.

    Raises:
        Interrupted: a signal came.
    """
    end_at_once_when_requeued()
    with unbreakable_output():  # of a launcher's worker, too
        return _train_job(list(HydraConfig.get().overrides.task))


def _train_job(overrides: list[str]) -> float:
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            import_beside(source.path)
    try:
        _check_launcher(_is_sweep(), HydraConfig.get().launcher._target_)
        composed = Composer(GlobalHydra.instance().config_loader()).compose(overrides)
        run = PlannedRun.of(composed, overrides)
        if not _is_sweep():  # which did so when it was planned
            keep_names([run])
        return _accuracy(composed.config, run)
    except Exception as error:
        raise_if_received()
        if _is_sweep():
            log.error("failed: %s: %s", " ".join(overrides), describe(error))
            return math.nan
        if WANTS_TRACEBACK:
            raise
        fail(describe(error), exit_code(error))


def _is_sweep() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _check_launcher(is_sweep: bool, launcher: str) -> None:
    """Check that a single run is not meant for a launcher, which Hydra would leave out without a word."""
    if not is_sweep and not launcher.endswith(".BasicLauncher"):
        raise ValueError(
            "a launcher trains the runs of a sweep, and this would be trained here: add -m, also for one run, or set "
            "launcher=serial"
        )


def _accuracy(config: DictConfig, run: PlannedRun) -> float:
    folder, node = run.folder, this_node(run.nodes)
    if node.rank > 0:
        return _help_train(config, run, node)
    try:
        if not folder.is_finished:
            with folder.locked():
                if not folder.is_finished:
                    return _report(_train(config, run, node), folder)
    except LockedError as error:
        log.info("%s, which is left to it", error)
        return math.nan
    if not _is_sweep() and (changed := DataChanges().since(folder, run.data)):
        raise DataError(finished_before_change(folder, changed))
    log.info("%s: finished before, skipped (delete the folder to run it again)", folder)
    result = Result.load(folder.path)
    if AGENT in os.environ:
        _log_again(config, run, result)
    return _report(result, folder)


def _log_again(config: DictConfig, run: PlannedRun, result: Result) -> None:
    from capsbench.launch.loggers import log_again  # late, as below

    _settle(config, run)
    log_again(config, run.identity, run.folder, result)


def _settle(config: DictConfig, run: PlannedRun) -> None:
    """Let a run that is no part of a sweep, which would have done so, log where it can."""
    if not _is_sweep():
        (settings,) = settle([(run.loggers, run.folder.path)])
        for key, value in settings.items():
            OmegaConf.update(config, key, value)


def _help_train(config: DictConfig, run: PlannedRun, node: Node) -> float:
    """Train the share of this node; the first one tells of the run."""
    from capsbench.launch.single_run import help_train  # late, as below

    if not run.folder.is_finished:
        help_train(config, run.identity, run.folder, node)
    return math.nan


def _train(config: DictConfig, run: PlannedRun, node: Node) -> Result:
    from capsbench.launch.single_run import train_run  # late: help and finished runs need no PyTorch
    from capsbench.runs.train_and_test import find_checkpoint

    folder = run.folder
    if folder.failed_at is not None and not config.retry_failed:
        raise RuntimeError(
            f"{folder} failed on {folder.failed_at:%Y-%m-%d}: {folder.cause_of_failure}; it was not tried again, "
            "retry_failed=true does so"
        )
    _settle(config, run)
    folder.forget_errors()
    with written_atomically(folder.config) as path:
        OmegaConf.save(config, path, resolve=True)
    run.identity.save(folder.identity)
    log.info("%s: %s", folder, "resumed" if find_checkpoint(folder) else "training")
    try:
        return train_run(config, run.identity, folder, _shown(config), node)
    except Interrupted as error:
        told = f"{folder} was {error}; the same command continues it"
        if folder.is_finished:
            told = f"{error}; {folder} is finished"
        raise Interrupted(error.signal_number, told) from error
    except Exception:
        if not folder.has_begun:
            for path in (folder.config, folder.identity):
                path.unlink(missing_ok=True)
        raise


def _shown(config: DictConfig) -> Shown:
    """How the run shows how far it is: a bar needs a terminal, and lines of several runs would be confused."""
    if not log.isEnabledFor(logging.INFO):
        return "nothing"
    if config.trainer.enable_progress_bar and sys.stdout.isatty():
        return "bar"
    return "nothing" if _is_sweep() else "lines"


def _report(result: Result, folder: RunFolder) -> float:
    said = f"{folder}: {in_words(result.metrics, result.watched_split)}"
    log.info(said) if _is_sweep() else print(said)
    return result.metrics[result.main_metric]
