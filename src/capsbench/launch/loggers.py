"""The loggers of a run: made from its settings, ended with its exit code."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from capsbench.data.files import at_home
from capsbench.launch.errors import ExitCode, describe, exit_code
from capsbench.launch.noise import hide_harmless_messages
from capsbench.launch.wandb import of_wandb
from capsbench.runs import Identity, Result, RunFolder
from capsbench.runs.train_and_test import summary_of
from capsbench.signals import Interrupted, raise_if_received
from capsbench.training import UnfailingLogger

log = logging.getLogger(__name__)


@contextmanager
def open_loggers(settings: Mapping[Any, Any], identity: Identity, folder: RunFolder) -> Iterator[list[UnfailingLogger]]:
    """Give the loggers of a run; at the end of the block they are told how it ended.

    Args:
        settings: of each logger.
        identity, folder: of the run.

    Raises:
        ValueError, TypeError, ImportError: a logger cannot be made of its settings, or is not installed.
    """
    made = [logger for each in settings.values() if (logger := _make(each, identity, folder)) is not None]
    code = int(ExitCode.FAILED)
    try:
        yield made
        code = int(ExitCode.DONE)
    except Interrupted as error:
        code = 128 + error.signal_number
        raise
    finally:
        for logger in made:
            logger.finish(code)


def _make(settings: DictConfig, identity: Identity, folder: RunFolder) -> UnfailingLogger | None:
    """A logger, with all of a run's settings; None if what it logs to fails."""
    own = settings.get("save_dir")
    # Absolute, since wandb's own process stays in the directory that it was started in.
    of_run = folder.path / "mlruns" if str(settings.get("_target_")).endswith(".MLFlowLogger") else folder.path
    place = (of_run if own is None else at_home(own)).absolute()
    make = instantiate(settings, save_dir=str(place), _partial_=True)
    is_wandb = issubclass(make.func, WandbLogger)
    if is_wandb and settings.get("id") is None:
        make.keywords["id"] = f"{identity.experiment}-{identity.digest}"  # sessions of one run are one run there
    try:
        logger = UnfailingLogger(make())
    except Exception as error:
        raise_if_received()
        if isinstance(error, ImportError) or exit_code(error) == ExitCode.USAGE:
            raise
        log.warning("%s failed, the run goes on without it: %s", make.func.__name__, describe(error))
        return None
    if not issubclass(make.func, CSVLogger):
        told = {**identity.settings, "choices": dict(identity.choices), "identity": identity.digest}
        logger.log_hyperparams(told)
    return logger


def log_again(config: DictConfig, identity: Identity, folder: RunFolder, result: Result) -> None:
    """Log a finished run to Weights & Biases once more: an agent there asked for it and waits for its objective.

    Args:
        config: of the run, resolvable here.
        identity, folder, result: of the run.
    """
    hide_harmless_messages()
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    with open_loggers(dict(of_wandb(resolved.logger)), identity, folder) as loggers:
        for logger in loggers:
            for row in result.history:
                logger.log_metrics({**row, "epoch": row["epoch"] - 1}, int(row["step"]) - 1)
            logger.log_summary(summary_of(result))
