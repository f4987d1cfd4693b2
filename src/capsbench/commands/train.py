"""`capsbench train`: a Hydra app that trains one run, or a sweep of them."""

import logging
import math
import sys
from functools import partial

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from capsbench.commands.arguments import usage_error
from capsbench.data.files import written_atomically
from capsbench.launch.config import CONF, Composer
from capsbench.launch.errors import WANTS_TRACEBACK, describe, exit_code, fail
from capsbench.launch.sweep import PlannedRun, keep_names
from capsbench.runs import LockedError, Result, RunFolder

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Run the command; Hydra reads its arguments."""
    setbase("1.3")
    parser = get_args_parser()
    parser.error = partial(usage_error, "train")  # type: ignore[method-assign]
    _run_hydra(parser.parse_intermixed_args(arguments), parser, job, str(CONF), "train")


def job(config: DictConfig) -> float:
    """Train the run of a Hydra job; return its accuracy on the watched split, the objective of a sweep.

    In a sweep an error is a line in the log and NaN, so that Hydra goes on; the sweep lists what failed at its end.
    """
    overrides = list(HydraConfig.get().overrides.task)
    try:
        composed = Composer(GlobalHydra.instance().config_loader()).compose(overrides)
        run = PlannedRun.of(composed, overrides)
        if HydraConfig.get().mode == RunMode.RUN:  # a sweep did so when it was planned
            keep_names([run])
        return _accuracy(composed.config, run)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            log.error("failed: %s: %s", " ".join(overrides), describe(error))
            return math.nan
        if WANTS_TRACEBACK:
            raise
        fail(describe(error), exit_code(error))


def _accuracy(config: DictConfig, run: PlannedRun) -> float:
    folder = run.folder
    try:
        if not folder.is_finished:
            with folder.locked():
                if not folder.is_finished:
                    return _report(_train(config, run), folder)
    except LockedError as error:
        log.info("%s, which is left to it", error)
        return math.nan
    log.info("%s: finished before, skipped (delete the folder to run it again)", folder)
    return _report(Result.load(folder.path), folder)


def _train(config: DictConfig, run: PlannedRun) -> Result:
    from capsbench.launch.single_run import train_run  # late: help and finished runs need no PyTorch
    from capsbench.runs.train_and_test import find_checkpoint
    from capsbench.training import Interrupted

    folder = run.folder
    if folder.cause_of_failure is not None and not config.retry_failed:
        raise RuntimeError(f"{folder} failed before: {folder.cause_of_failure} (retry_failed=true tries it again)")
    folder.failure.unlink(missing_ok=True)
    with written_atomically(folder.config) as path:
        OmegaConf.save(config, path, resolve=True)
    run.identity.save(folder.identity)
    log.info("%s: %s", folder, "resumed" if find_checkpoint(folder) else "training")
    try:
        return train_run(config, run.identity, folder)
    except Interrupted as error:
        print(f"error: {folder} was {error}; the same command continues it", file=sys.stderr)
        sys.exit(128 + error.signal_number)


def _report(result: Result, folder: RunFolder) -> float:
    split = result.watched_split
    accuracy = result.metrics[f"{split}/accuracy"]
    log.info("%s: %s accuracy %.2f %%", folder, split, 100 * accuracy)
    return accuracy
