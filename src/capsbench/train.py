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
from omegaconf import DictConfig, ListConfig, OmegaConf

from capsbench.errors import describe, one_line, plain_exit
from capsbench.experiments import (
    CONFIG_FILE,
    FAILURE_FILE,
    RESULT_FILE,
    Identity,
    Result,
    TakenError,
    taken,
    where_to_go_on,
)
from capsbench.single_run import check_lengths, num_devices, run
from capsbench.sweep import tell_of_broken
from capsbench.training import Interrupted

log = logging.getLogger(__name__)

CONF = next(path for path in (Path(__file__).parent / "conf", Path(__file__).parents[2] / "conf") if path.is_dir())
"""In the wheel the configuration is inside the package, in a checkout at its root."""

OmegaConf.register_new_resolver("one_of", lambda value, *options: value in options, replace=True)


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
    check_types(config)
    resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    identity = Identity.of(resolved, HydraConfig.get().runtime.choices)
    folder = identity.folder(config.output_dir)
    try:
        if not (folder / RESULT_FILE).exists():
            with taken(folder):
                if not (folder / RESULT_FILE).exists():
                    return _report(_train(config, identity, folder), folder)
    except TakenError as error:
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
    log.info("%s: %s", folder, "resumed" if where_to_go_on(folder) else "training")
    try:
        return run(config, identity, folder)
    except Interrupted as error:
        print(f"error: {folder} was {error}; the same command continues it", file=sys.stderr)
        sys.exit(128 + error.signal_number)


def check_types(config: DictConfig) -> None:
    """Compare what was set with what it replaces.

    Raises:
        ValueError: a switch that is neither true nor false, text where there was a number, a number out of its range.
    """
    hydra_config = HydraConfig.get()
    chosen = [word for word in hydra_config.overrides.task if word.partition("=")[0] in hydra_config.runtime.choices]
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.load_configuration("train", overrides=chosen, run_mode=RunMode.RUN)
    for word in hydra_config.overrides.task:
        key = word.partition("=")[0]
        default = OmegaConf.select(defaults, key)
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value}")
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        if numeric and key != "seed" and not (isinstance(value, int | float) and not isinstance(value, bool)):
            raise ValueError(f"{key} must be a number such as {default}, got {value}")
        if isinstance(default, int) and isinstance(value, float) and key != "seed":
            raise ValueError(f"{key} must be a whole number such as {default}, got {value}")
        if isinstance(default, ListConfig) and not isinstance(value, ListConfig):
            raise ValueError(f"{key} must be a list such as {default}, got {value}")
    check_lengths(config)
    num_devices(config)


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


if __name__ == "__main__":
    main()
