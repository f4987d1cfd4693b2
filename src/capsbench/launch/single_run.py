"""One run from its configuration, in this process or over several devices."""

import logging
import os
import signal
import sys
import traceback
from datetime import timedelta
from typing import Any

import lightning
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from capsbench import signals
from capsbench.launch.build import build_data, build_module
from capsbench.launch.callbacks import make_callbacks
from capsbench.launch.errors import ExitCode, blames_machine, describe, exit_code, naming_batch_sizes
from capsbench.launch.initial import begin_with, source_of
from capsbench.launch.loggers import open_loggers
from capsbench.launch.nodes import ALONE, Node
from capsbench.launch.noise import hide_harmless_messages
from capsbench.launch.output import unbreakable_output
from capsbench.launch.slurm_job import WORD
from capsbench.launch.workers import follow_parent
from capsbench.routing import NonFiniteError
from capsbench.runs import Identity, Result, RunFolder
from capsbench.runs.state import Shown
from capsbench.runs.train_and_test import TrainerFactory, train_and_test
from capsbench.signals import Interrupted
from capsbench.training import keep_freed_memory

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
"""The processes of a run on one machine meet here: its name need not resolve."""
MEETS_S = 600
"""Seconds that the nodes of a run have to meet."""
PEER_LOST = "by peer"
"""How PyTorch says in a process that another one of its run has ended: the connection was closed, or reset, by peer."""


def train_run(
    config: DictConfig, identity: Identity, folder: RunFolder, shown: Shown = "nothing", node: Node = ALONE
) -> Result:
    """Train and test what a configuration describes; an error is left in the folder, too.

    Args:
        config: resolved, or resolvable here.
        identity, folder: of the run.
        shown: how far the run is shows as a bar, or as a line for each epoch, or not at all.
        node: this machine; others train the run with it.

    Raises:
        Interrupted: a signal said to stop.
        LostError: the folder was deleted meanwhile.
    """
    step_before = folder.last_report
    try:
        resolved = _resolved(config, identity, node)
        if identity.settings["devices"]["number"] > 1:
            _run_on_several(resolved, identity, folder, shown, node)
            return Result.load(folder.path)
        if resolved.trainer.get("strategy") == "ddp":  # there is nothing to divide between
            resolved.trainer.strategy, resolved.trainer.sync_batchnorm = "auto", False
        with naming_batch_sizes(resolved.data):
            return _run_here(resolved, identity, folder, shown)
    except Exception as error:
        signals.raise_if_received()
        folder.check_whole()  # whatever failed, this is why
        if folder.cause_of_failure is None and folder.cause_of_stop is None:  # else a rank has told more
            _record(error, folder, step_before)
        raise


def help_train(config: DictConfig, identity: Identity, folder: RunFolder, node: Node) -> None:
    """Train a run together with the first of its nodes, which keeps its folder and has to say what became of it.

    Raises:
        Interrupted: a signal said to stop.
        ChildProcessError, RuntimeError, ValueError: the run came to no end.
    """
    _run_on_several(_resolved(config, identity, node), identity, folder, "nothing", node)


def _resolved(config: DictConfig, identity: Identity, node: Node) -> DictConfig:
    """The configuration with the devices of this node."""
    resolved, devices = config.copy(), identity.settings["devices"]
    OmegaConf.resolve(resolved)
    resolved.trainer.accelerator, resolved.trainer.devices = devices["kind"], devices["number"] // node.number
    return resolved


def _record(error: Exception, folder: RunFolder, step_before: int | None) -> None:
    """Keep an error. The run itself failed if numbers came out that are none, or if the error is of its training.

    What its machine lacks, and what happens before the first step, says nothing of the run.
    """
    has_trained = folder.last_report != step_before
    failed = isinstance(error, NonFiniteError) or (has_trained and not blames_machine(error))
    folder.record(describe(error), traceback.format_exc(), failed=failed)


def _run_here(config: DictConfig, identity: Identity, folder: RunFolder, shown: Shown) -> Result:
    hide_harmless_messages()
    keep_freed_memory()
    lightning.seed_everything(identity.seed, verbose=False)
    data = build_data(config)
    module = build_module(config, data)
    begun_with = ""
    if config.get("init_from") is not None:
        begun_with = begin_with(source_of(config.init_from), module, config, data)
        log.info("initial weights: %s", begun_with)
    settings: Any = OmegaConf.to_container(config)
    try:
        with open_loggers(config.logger, identity, folder) as loggers:
            return train_and_test(
                identity,
                folder,
                data=data,
                module=module,
                network={part: settings[part] for part in ("arch", "router")},
                make_trainer=_trainer(config.trainer),
                loggers=loggers,
                begun_with=begun_with,
                callbacks=make_callbacks(config.get("callbacks") or {}, folder),
                progress=shown,
                checkpoint_every=timedelta(minutes=config.checkpoint_minutes),
            )
    except NonFiniteError:
        for checkpoint in (folder.weights, folder.resume, folder.previous):
            folder.set_aside(checkpoint)  # it may lead there again
        raise


def _trainer(settings: DictConfig) -> TrainerFactory:
    """The trainer of a run.

    Lightning's own `overfit_batches` would replace the order of examples; ours repeats it. A run of one process is one
    also within a Slurm job of several tasks, where Lightning would look for the others.
    """
    few = settings.get("overfit_batches")
    limits = {"overfit_batches": 0, "limit_train_batches": few, "limit_val_batches": few} if few else {}
    alone = settings.devices == 1 and settings.get("plugins") is None
    environment = {"plugins": [LightningEnvironment()]} if alone else {}
    made: TrainerFactory = instantiate(settings, _partial_=True, **limits, **environment)
    return made


def _run_on_several(config: DictConfig, identity: Identity, folder: RunFolder, shown: Shown, node: Node) -> None:
    """Start a process per device of this node with PyTorch's elastic launcher, and wait for them."""
    hide_harmless_messages()
    if config.trainer.accelerator == "cpu":
        config.trainer.sync_batchnorm = False
        log.warning("on CPUs batch norm is not synchronised: each process normalises its share of a batch")
    alone = node.number == 1
    launch = LaunchConfig(
        min_nodes=node.number,
        max_nodes=node.number,
        nproc_per_node=config.trainer.devices,
        run_id=identity.digest,
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint=f"{LOOPBACK}:0" if alone else node.meeting_point,
        rdzv_configs={} if alone else {"rank": node.rank, "timeout": MEETS_S},
        local_addr=LOOPBACK if alone else None,
        max_restarts=0,
        start_method="spawn",
        signals_to_handle=",".join(signal.Signals(number).name for number in signals.install()),
    )
    try:
        elastic_launch(launch, _rank)(config, identity, folder, shown)
    except SignalException as error:
        signals.record(error.sigval)
        raise Interrupted(error.sigval) from error
    except DistError as error:
        if alone:
            raise
        raise ConnectionError(
            f"the {node.number} nodes of the run did not meet at {node.meeting_point} within {MEETS_S} s, which all of "
            f"them must reach: {describe(error)}"
        ) from error
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if (number := first.exitcode - 128) in signals.SIGNALS:  # it came to one process, and all saved
            signals.record(number)
            raise Interrupted(number) from error
        told = folder.cause_of_failure or folder.cause_of_stop
        if told is None:
            raise ChildProcessError(
                "a process of the run was killed (often out of memory); the same command continues it"
            ) from error
        raise (ValueError if first.exitcode == ExitCode.USAGE else RuntimeError)(told) from error
    finally:
        signals.install()  # the launcher leaves its own


def _rank(config: DictConfig, identity: Identity, folder: RunFolder, shown: Shown) -> None:
    """What each process does."""
    rank_zero_only.rank = int(os.environ["RANK"])  # type: ignore[attr-defined]  # loggers ask; it was unknown on import
    signal.signal(WORD, signal.SIG_IGN)  # Slurm gives it to every process of a job; the first one heeds it for all
    follow_parent()
    step_before = folder.last_report
    with unbreakable_output():
        try:
            with signals.heeded(), naming_batch_sizes(config.data):
                _run_here(config, identity, folder, shown)
        except Exception as error:
            told = folder.cause_of_failure or folder.cause_of_stop
            if told is None and PEER_LOST not in str(error):  # else the other process knows why, or was killed
                _record(error, folder, step_before)
            sys.exit(exit_code(error))
