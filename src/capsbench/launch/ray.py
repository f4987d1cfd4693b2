"""Runs as Ray tasks: on which cluster, what a run asks it for, and how runs are waited for and stopped."""

import contextlib
import functools
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from capsbench import signals
from capsbench.launch.errors import describe
from capsbench.launch.sweep import PlannedRun
from capsbench.launch.threads import let_threads_sleep
from capsbench.runs import SWEEP, RunFolder

OBJECT_STORE = 78_643_200
"""Bytes of shared memory, as Hydra's launcher asks for: runs share no objects."""
PASSED_ON = (
    "CAPSBENCH_DATA",
    "OMP_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "WANDB_MODE",
    "WANDB_PROJECT",
    "WANDB_ENTITY",
    SWEEP,
)
"""Environment variables that mean the same in workers on any machine."""
ENDED = "the Ray cluster at {} has ended; the same command continues its runs when there is one again"
LOOK_EVERY_S = 1.0
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


def start_ray(settings: DictConfig) -> str | None:
    """Connect to a cluster, or start one here, and take the signals back that Ray then takes for itself.

    Args:
        settings: of `ray.init`.

    Returns:
        HOST:PORT of a cluster that runs by itself.

    Raises:
        ConnectionError: nothing answers there.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # Ray would show the lines of one run for those of several

    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray as start  # of an optional package

    address = None
    if not ray.is_initialized():
        address = _address(settings.get("address"))
        if address is None and settings.get("object_store_memory") is None:
            settings.object_store_memory = OBJECT_STORE
        elif address is not None and not _answers(address):
            raise ConnectionError(
                f"no Ray cluster answers at {address}, which hydra.launcher.ray.init.address={settings.address} means; "
                "start one with ray start --head, or leave that setting out to train on this machine"
            )
        with open_dict(settings):
            settings.runtime_env.env_vars.update({name: os.environ[name] for name in PASSED_ON if name in os.environ})
        start(settings)
    signals.install()
    return address


def _address(said: str | None) -> str | None:
    """HOST:PORT of the cluster that an address means; None: one that is started here."""
    from ray._private.services import canonicalize_bootstrap_address

    host = str(said).removeprefix("ray://")
    if host != said or said == "local":
        return None if said == "local" else host
    try:
        found: str | None = canonicalize_bootstrap_address(said)
    except Exception as error:
        raise ConnectionError(f"hydra.launcher.ray.init.address={said} is no address: {describe(error)}") from error
    if found is None and said == "auto":
        raise ConnectionError(
            "no Ray cluster runs on this machine, as hydra.launcher.ray.init.address=auto says; start one with ray "
            "start --head, name another HOST:PORT, or leave that setting out to train on this machine"
        )
    return found


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S / 2).close()
        return True
    return False


def check_kind(config: DictConfig, runs: Sequence[PlannedRun]) -> None:
    """Refuse to train on the CPUs of a cluster with GPUs unless that was asked for.

    Raises:
        ValueError: `trainer.accelerator=auto` was decided by a machine without a GPU, and the cluster has some.
    """
    import ray

    there = ray.cluster_resources().get("GPU", 0)
    of_cpus = any(run.identity.settings["devices"]["kind"] == "cpu" for run in runs)
    if there and of_cpus and str(config.trainer.accelerator) == "auto":
        raise ValueError(
            f"the cluster has {there:g} GPUs, and this machine none that trainer.accelerator=auto could mean; set "
            "trainer.accelerator=gpu, or trainer.accelerator=cpu to train on CPUs"
        )


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


def check_resources(asked: Mapping[str, float]) -> None:
    """Check that a node of the cluster has, when it is free, what a run asks for; else the run would wait for ever.

    Raises:
        ValueError: none has.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= number for name, number in asked.items()) for node in nodes):
        return
    wants, *have = (
        " and ".join(f"{each.get(name, 0):g} {name}" for name, number in asked.items() if number)
        for each in (asked, *nodes)
    )
    raise ValueError(
        f"a run asks Ray for {wants}, and no node of the cluster has that, but {' or '.join(sorted(set(have)))}; "
        "lower hydra.launcher.ray.remote.num_cpus or gpus_per_run, or set wait=true if the cluster will grow"
    )


def _start(launcher: Any, asked: Mapping[str, float], words: Sequence[str], number: int) -> Any:
    """Hand a run to Ray as Hydra's launcher does; returns what Ray knows it by."""
    from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

    setup_globals()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(words))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
    remote = OmegaConf.merge(launcher.ray_cfg.remote, {"num_gpus": asked["GPU"]})
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

    causes, left, told, answered = {}, list(tasks), [], time.monotonic()
    while left or any(_trains(folder) for folder in told):
        done, left = ray.wait(left, timeout=LOOK_EVERY_S) if left else ([], [])
        for task in done:
            try:
                ray.get(task)
            except ray.exceptions.TaskCancelledError:
                time.sleep(LOOK_EVERY_S)  # its process may still save
            except ray.exceptions.RayError as error:
                if address is not None and not _answers(address):
                    raise ConnectionError(ENDED.format(address)) from error
                causes[tasks[task]] = _cause(error)
        if signals.received() is not None and not told:
            told = [tasks[task] for task in left]
            for task in left:
                ray.cancel(task)  # in its process, a SIGINT
        if address is None or _answers(address):
            answered = time.monotonic()
        elif time.monotonic() - answered > PATIENCE_S:
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
