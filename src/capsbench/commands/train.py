"""`capsbench train`: a Hydra app that trains one run, or a sweep of them."""

import logging
import math
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from capsbench.launch.config import CONF, check_settings
from capsbench.launch.errors import describe, one_line, plain_exit
from capsbench.launch.single_run import run
from capsbench.launch.sweep import tell_of_broken
from capsbench.runs import (
    CONFIG_FILE,
    FAILURE_FILE,
    RESULT_FILE,
    Identity,
    LockedError,
    Result,
    find_checkpoint,
    locked,
)
from capsbench.training import Interrupted

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@plain_exit
def app(config: DictConfig) -> float:
    """Train one run, unless it is finished, failed before or another process is at it; return its test accuracy.

    In a sweep an error is NaN and a line in the log, so that Hydra goes on to the sweep's end, which lists what failed.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return _accuracy(config)
    try:
        return _accuracy(config)
    except Exception as error:
        log.error("failed: %s: %s", " ".join(HydraConfig.get().overrides.task), describe(error))
        return math.nan


def _accuracy(config: DictConfig) -> float:
    check_settings(config, GlobalHydra.instance().config_loader())
    resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    identity = Identity.of(resolved, HydraConfig.get().runtime.choices)
    folder = identity.folder(config.output_dir)
    try:
        if not (folder / RESULT_FILE).exists():
            with locked(folder):
                if not (folder / RESULT_FILE).exists():
                    return _report(_train(config, identity, folder), folder)
    except LockedError as error:
        log.info("%s, which is left to it", error)
        return math.nan
    log.info("%s: finished before, skipped (delete the folder to run it again)", folder)
    return _report(Result.load(folder), folder)


def _train(config: DictConfig, identity: Identity, folder: Path) -> Result:
    failure = folder / FAILURE_FILE
    if failure.exists() and not config.retry_failed:
        cause = failure.read_text().partition("\n")[0]
        raise RuntimeError(f"{folder} failed before: {cause} (retry_failed=true tries it again)")
    failure.unlink(missing_ok=True)
    OmegaConf.save(config, folder / CONFIG_FILE, resolve=True)
    log.info("%s: %s", folder, "resumed" if find_checkpoint(folder) else "training")
    try:
        return run(config, identity, folder)
    except Interrupted as error:
        print(f"error: {folder} was {error}; the same command continues it", file=sys.stderr)
        sys.exit(128 + error.signal_number)


def _report(result: Result, folder: Path) -> float:
    accuracy = result.metrics["test/accuracy"]
    log.info("%s: test accuracy %.2f %%", folder, 100 * accuracy)
    return accuracy


def main() -> None:
    """Run the app; an error is one line."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with one_line():
        try:
            app()
        except BrokenExecutor as error:
            raise RuntimeError(tell_of_broken()) from error
