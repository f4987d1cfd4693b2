"""Runs as Ray tasks: what each asks for, and how they are waited for and stopped."""

import functools
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from capsbench import signals
from capsbench.launch.errors import describe
from capsbench.launch.ray_cluster import answers, check_kind, check_resources, start_ray
from capsbench.launch.sweep import PlannedRun
from capsbench.launch.threads import let_threads_sleep
from capsbench.runs import SWEEP, RunFolder

ENDED = "the Ray cluster at {} has ended; the same command continues its runs when there is one again"
LOOK_EVERY_S = 1.0
LOOKS_AT_END = 3
"""After a task that Ray lost: whether the cluster is going, too."""
PATIENCE_S = 10.0
"""Seconds for which a cluster may be silent."""


def launch(
    launcher: Any, runs: Sequence[PlannedRun], overrides: Sequence[Sequence[str]], first: int
) -> dict[RunFolder, str]:
    """Train runs as tasks of Ray, and wait for them. After a signal they are told to save, and waited for.

    Args:
        launcher: Hydra's, set up.
        runs: to be trained.
        overrides: of the task of each.
        first: number of the first one in its sweep.

    Returns:
        Why runs came to no end, where Ray tells.

    Raises:
        ValueError: no node of the cluster has what a run asks for.
        ConnectionError: there is no such cluster, or it ended.
        Interrupted: a signal came.
    """
    address = start_ray(launcher.ray_cfg.init)
    check_kind(launcher.config, runs)
    asked = [what_is_asked(run, launcher) for run in runs]
    if not launcher.config.get("wait"):
        for each in {tuple(sorted(each.items())): each for each in asked}.values():
            check_resources(each)
    with signals.uninterrupted():
        tasks = {
            _start(launcher, each, words, first + number): run.folder
            for number, (run, each, words) in enumerate(zip(runs, asked, overrides, strict=True))
        }
        return _wait(tasks, address)


def what_is_asked(run: PlannedRun, launcher: Any) -> dict[str, float]:
    """Resources that a run asks Ray for: {"CPU": 1, "GPU": 0.25}."""
    remote = launcher.ray_cfg.remote
    gpus = gpus_per_run(remote.get("num_gpus"), run.identity.settings["devices"])
    return {"CPU": remote.get("num_cpus", 1), "GPU": gpus, **(remote.get("resources") or {})}


def gpus_per_run(wanted: float | int | None, devices: Mapping[str, Any]) -> float:
    """GPUs that a run asks Ray for.

    Args:
        wanted: 0.25 lets four runs share a GPU; None: one for each device of a run on GPUs.
        devices: of the run, as in its identity.

    Raises:
        ValueError: it is no number of at least 0.
    """
    if wanted is None:
        return float(devices["number"] if devices["kind"] == "gpu" else 0)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted < 0:
        raise ValueError(f"gpus_per_run must be a number of at least 0, such as 0.25, got {wanted}")
    return float(wanted)


def _start(launcher: Any, asked: Mapping[str, float], words: Sequence[str], number: int) -> Any:
    """Hand a run to Ray as Hydra's launcher does; returns what Ray knows it by."""
    from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

    setup_globals()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(words))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
    remote = OmegaConf.create({**launcher.ray_cfg.remote, "num_gpus": asked["GPU"]})
    task = functools.partial(_until_cancelled, launcher.task_function)
    return launch_job_on_ray(launcher.hydra_context, remote, config, task, Singleton.get_state())


def _until_cancelled(task: Callable[[DictConfig], float], config: DictConfig) -> float:
    """Train a run in its worker, which stays when Ray cancels the task, and says nothing: the command does."""
    with signals.heeded():
        try:
            return task(config)
        except signals.Interrupted as error:
            if error.signal_number != signal.SIGINT:
                raise
            return math.nan


def _wait(tasks: Mapping[Any, RunFolder], address: str | None) -> dict[RunFolder, str]:
    """Wait for tasks; after a signal they are told to save.

    Args:
        tasks: with the folder of the run of each.
        address: of the cluster, if it runs by itself.

    Raises:
        ConnectionError: the cluster has ended.
    """
    import ray

    causes: dict[RunFolder, str] = {}
    left, answered = list(tasks), time.monotonic()
    told: list[RunFolder] = []
    while left or any(_trains(folder) for folder in told):
        done, left = ray.wait(left, timeout=LOOK_EVERY_S) if left else ([], [])
        for task in done:
            try:
                ray.get(task)
            except ray.exceptions.TaskCancelledError:
                time.sleep(LOOK_EVERY_S)  # its process may still save
            except ray.exceptions.RayError as error:
                if address is not None and not answers(address):
                    raise ConnectionError(ENDED.format(address)) from error
                causes[tasks[task]] = _cause(error)
        if signals.received() is not None and not told:
            told = [tasks[task] for task in left]
            for task in left:
                ray.cancel(task)  # in its process, a SIGINT
        if address is None or answers(address):
            answered = time.monotonic()
        elif time.monotonic() - answered > PATIENCE_S:
            raise ConnectionError(ENDED.format(address))
    if causes and address is not None:  # a cluster that ends loses its nodes first
        for _ in range(LOOKS_AT_END):
            time.sleep(LOOK_EVERY_S)
            if not answers(address):
                raise ConnectionError(ENDED.format(address))
    return causes


def _trains(folder: RunFolder) -> bool:
    """Whether a process of this sweep trains a run, on whatever machine."""
    return folder.is_locked and folder.read_session().sweep == os.environ[SWEEP]


def _cause(error: Exception) -> str:
    """Why a task came to no end, in one line."""
    import ray

    if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError):
        return "its process was killed again and again, perhaps out of memory"
    return describe(getattr(error, "cause", None) or error)[:300]


def enter_working_directory() -> None:
    """Prepare a Ray worker: relative paths mean what they mean where the sweep was started, and its threads sleep."""
    let_threads_sleep()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray's word for a task; a parent may have ignored it
    os.chdir(os.environ["CAPSBENCH_WORKING_DIRECTORY"])
