"""One run of a command, or of Python: its folder is prepared, it is trained, and an interruption is told."""

import logging

from omegaconf import DictConfig, OmegaConf

from capsbench.data.files import written_atomically
from capsbench.launch.nodes import ALONE, Node
from capsbench.launch.sweep import PlannedRun
from capsbench.launch.wandb import settle
from capsbench.runs import Result
from capsbench.runs.siblings import shorter_run
from capsbench.runs.state import Shown
from capsbench.signals import Interrupted

log = logging.getLogger(__name__)


def train(
    config: DictConfig, run: PlannedRun, shown: Shown = "nothing", node: Node = ALONE, *, in_sweep: bool = False
) -> Result:
    """Train a run that is not finished, from its last checkpoint if there is one.

    Args:
        config: of the run, resolvable here.
        run: what it is; its folder is locked.
        shown: how far the run is shows as a bar, or as a line for each epoch, or not at all.
        node: this machine; others train the run with it.
        in_sweep: the sweep has settled where it logs.

    Raises:
        RuntimeError: it failed before, and is not to be tried again.
        Interrupted: a signal came; the run has saved.
    """
    from capsbench.launch.single_run import train_run  # late: help and finished runs need no PyTorch
    from capsbench.runs.train_and_test import find_checkpoint

    folder = run.folder
    if folder.failed_at is not None and not config.retry_failed:
        raise RuntimeError(
            f"{folder} failed on {folder.failed_at:%Y-%m-%d}: {folder.cause_of_failure}; it was not tried again, "
            "retry_failed=true does so"
        )
    if not in_sweep:
        settle_loggers(config, run)
    folder.forget_errors()
    with written_atomically(folder.config) as path:
        OmegaConf.save(config, path, resolve=True)
    run.identity.save(folder.identity)
    resumes = find_checkpoint(folder) is not None
    log.info("%s: %s", folder, "resumed" if resumes else "training")
    if not resumes and config.get("init_from") is None and (other := shorter_run(run.identity, folder)) is not None:
        log.info(
            "this is another run than %s, which is shorter and finished, and it starts from the beginning: schedules "
            "follow the length; init_from=%s begins with the weights of that one",
            other,
            other,
        )
    try:
        return train_run(config, run.identity, folder, shown, node)
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


def settle_loggers(config: DictConfig, run: PlannedRun) -> None:
    """Let a run that is no part of a sweep, which would have done so, log where it can."""
    (settings,) = settle([(run.loggers, run.folder.path)])
    for key, value in settings.items():
        OmegaConf.update(config, key, value)
