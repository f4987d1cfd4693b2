"""One run from its configuration, in this process or over several devices."""

import contextlib
import logging
import sys
import traceback
from datetime import timedelta

import lightning
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from capsbench.launch.build import build_data, build_module
from capsbench.launch.errors import ExitCode, describe, exit_code
from capsbench.launch.noise import hide_harmless_messages
from capsbench.routing import NonFiniteError
from capsbench.runs import Identity, Result, RunFolder
from capsbench.runs.train_and_test import train_and_test
from capsbench.training import Interrupted, keep_freed_memory

log = logging.getLogger(__name__)


def train_run(config: DictConfig, identity: Identity, folder: RunFolder) -> Result:
    """Train and test what a configuration describes; an error is left in the folder, too.

    Args:
        config: resolved, or resolvable here.
        identity, folder: of the run.

    Raises:
        Interrupted: a signal said to stop.
        LostError: the folder was deleted meanwhile.
    """
    try:
        resolved = config.copy()
        OmegaConf.resolve(resolved)
        kind, number = (identity.settings["devices"][name] for name in ("kind", "number"))
        resolved.trainer.accelerator, resolved.trainer.devices = kind, number
        if number > 1:
            return _run_on_several(resolved, identity, folder, number)
        if resolved.trainer.get("strategy") == "ddp":  # there is nothing to divide between
            resolved.trainer.strategy, resolved.trainer.sync_batchnorm = "auto", False
        return _run_here(resolved, identity, folder)
    except Interrupted:
        raise
    except Exception as error:
        folder.check_whole()  # whatever failed, this is why
        if folder.cause_of_failure is None:  # else a rank has told more
            folder.record_failure(describe(error), traceback.format_exc())
        raise


def _run_here(config: DictConfig, identity: Identity, folder: RunFolder) -> Result:
    hide_harmless_messages()
    keep_freed_memory()
    lightning.seed_everything(identity.seed, verbose=False)
    data = build_data(config)
    module = build_module(config, data)
    loggers = _loggers(config, identity, folder)
    try:
        return train_and_test(
            identity,
            folder,
            data=data,
            module=module,
            make_trainer=instantiate(config.trainer, _partial_=True),
            loggers=loggers,
            progress_bar=config.trainer.enable_progress_bar,
            checkpoint_every=timedelta(minutes=config.checkpoint_minutes),
        )
    except NonFiniteError:
        for checkpoint in (folder.weights, folder.resume):
            checkpoint.unlink(missing_ok=True)  # it may lead there again
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # else the sweep's next run would go on in this one
                logger.experiment.finish()


def _loggers(config: DictConfig, identity: Identity, folder: RunFolder) -> list[Logger]:
    loggers = []
    for settings in config.logger.values():
        # Absolute, since wandb's own process stays in the directory that it was started in.
        make = instantiate(settings, save_dir=str(folder.path.absolute()), _partial_=True)
        if issubclass(make.func, WandbLogger) and settings.get("id") is None:
            make.keywords["id"] = f"{identity.experiment}-{identity.digest}"  # sessions of one run are one run there
        logger = make()
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(
                {**identity.settings, "choices": dict(identity.choices), "identity": identity.digest}
            )
        loggers.append(logger)
    return loggers


def _run_on_several(config: DictConfig, identity: Identity, folder: RunFolder, devices: int) -> Result:
    """Start a process per device with PyTorch's elastic launcher, and wait for them."""
    if config.trainer.accelerator == "cpu":
        config.trainer.sync_batchnorm = False
        log.warning("on CPUs batch norm is not synchronised: each process normalises its share of a batch")
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=identity.digest,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(launch, _rank)(config, identity, folder)
    except SignalException as error:
        raise Interrupted(int(error.sigval)) from error
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        kind = ValueError if first.exitcode == ExitCode.USAGE else RuntimeError
        raise kind(folder.cause_of_failure or str(error)) from error
    return Result.load(folder.path)


def _rank(config: DictConfig, identity: Identity, folder: RunFolder) -> None:
    """What each process does."""
    try:
        _run_here(config, identity, folder)
    except Interrupted as error:
        sys.exit(128 + error.signal_number)
    except Exception as error:
        with contextlib.suppress(FileNotFoundError):  # the folder was deleted, which the parent tells
            folder.record_failure(describe(error), traceback.format_exc())
        sys.exit(exit_code(error))
