"""Runs as jobs of Slurm: what a job asks for, and how jobs are submitted, which submitit does."""

import copy
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

from capsbench import signals
from capsbench.launch.slurm_job import Task
from capsbench.launch.slurm_queue import ask, cancel, job_of, read_queue, refusals, refuse_never
from capsbench.launch.slurm_watch import WatchedJob, watch
from capsbench.launch.sweep import PlannedRun
from capsbench.runs import RunFolder
from capsbench.runs.submission import Submission

log = logging.getLogger(__name__)

ASKS_FOR_GPUS = ("gpus_per_node", "gpus_per_task", "gres")
"""Settings of the launcher that say themselves how many GPUs a job gets."""
ENDS_TOGETHER_S = 60
"""Seconds after the end of a run on one of its nodes in which it must end on the others."""
MAX_ARRAY = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)


def launch(launcher: Any, runs: Sequence[PlannedRun], overrides: Sequence[Sequence[str]]) -> dict[RunFolder, str]:
    """Submit runs, and wait until their jobs have ended. Runs that are in the queue already are waited for alone.

    Args:
        launcher: Hydra's, set up.
        runs: to be trained.
        overrides: of the job of each.

    Returns:
        Why runs came to no end, where their jobs tell.

    Raises:
        ValueError: a setting of the launcher cannot be used.
        RuntimeError: Slurm refuses the jobs.
    """
    check_settings(launcher.params, launcher.config.gpus_per_run, max(run.nodes for run in runs))
    retry = bool(launcher.config.retry_failed)
    queue = read_queue()
    jobs, tasks = [], []
    for number, (run, words) in enumerate(zip(runs, overrides, strict=True)):
        submission = Submission.read(run.folder)
        before = job_of(submission, queue)
        if before is not None and before.never_starts:
            cancel([before.number])  # another one asks for something else, perhaps
        elif before is not None and submission is not None and not before.is_over:
            jobs.append(WatchedJob(submission, [run.folder]))
            continue
        if retry or "retry_failed=true" in words or run.folder.cause_of_failure is None:
            tasks.append((run, Task(run.folder, list(words), number, Singleton.get_state())))
    if jobs:
        log.info("%d of %d runs are in the queue already", len(jobs), len(runs))
    refused = None
    try:
        for part in _parts(launcher, tasks):
            with signals.uninterrupted():  # no job without a note of it
                jobs += _submit(launcher, part)
    except (RuntimeError, ValueError) as error:
        signals.raise_if_received()  # sbatch may have got it, too
        if not jobs:
            raise
        refused = f"Slurm refused its job: {error}"
    causes = watch(jobs)
    if refused is not None:
        submitted = {run.folder for job in jobs for run in job.runs}
        causes |= {run.folder: refused for run, _ in tasks if run.folder not in submitted}
    return causes


def check_settings(params: dict[str, Any], gpus_per_run: Any, nodes: int = 1) -> None:
    """Check the settings of a job against each other.

    Args:
        params: of Hydra's launcher.
        gpus_per_run: "auto", or a number.
        nodes: the most that a run is trained on.

    Raises:
        ValueError: they cannot be used.
    """
    delay, limit = params["signal_delay_s"], 60 * params["timeout_min"]
    if delay >= limit:
        raise ValueError(
            f"hydra.launcher.signal_delay_s={delay} must be less than hydra.launcher.timeout_min={limit // 60}, which "
            f"is {limit} s: it is how long before its time limit a job saves"
        )
    for key in ("nodes", "tasks_per_node"):
        if params[key] != 1:
            raise ValueError(
                f"hydra.launcher.{key} must be 1, got {params[key]}: a run says itself what it is divided over; "
                "trainer=ddp trainer.num_nodes=M trainer.devices=N is M nodes with N devices each"
            )
    if params["runs_per_job"] < 1:
        raise ValueError(f"hydra.launcher.runs_per_job must be at least 1, got {params['runs_per_job']}")
    if nodes > 1 < params["runs_per_job"]:
        raise ValueError(
            f"hydra.launcher.runs_per_job must be 1 with trainer.num_nodes={nodes}, got {params['runs_per_job']}: a "
            "job of several nodes trains one run"
        )
    whole = isinstance(gpus_per_run, int) and not isinstance(gpus_per_run, bool) and gpus_per_run >= 0
    if gpus_per_run != "auto" and not whole:
        raise ValueError(f"gpus_per_run must be auto or a whole number with launcher=slurm, got {gpus_per_run}")


def gpus_of(run: PlannedRun, gpus_per_run: int | str) -> int:
    """How many GPUs of a node the job of a run asks for: with "auto" one for each of its devices, if they are GPUs."""
    devices = run.identity.settings["devices"]
    if gpus_per_run != "auto":
        return int(gpus_per_run)
    return int(devices["number"]) // run.nodes if devices["kind"] == "gpu" else 0


Asked = tuple[PlannedRun, Task]
Part = tuple[dict[str, Any], list[list[Asked]]]


def _parts(launcher: Any, tasks: Sequence[Asked]) -> Iterator[Part]:
    """The arrays to submit: what is to be asked for beside the launcher's settings, and the runs of each job."""
    own = any(launcher.params.get(key) is not None for key in ASKS_FOR_GPUS)
    per_job, longest = launcher.params["runs_per_job"], _max_array()

    def machines(asked: Asked) -> tuple[int, int]:
        run, _ = asked
        return run.nodes, 0 if own else gpus_of(run, launcher.config.gpus_per_run)

    arrays: list[Part] = []
    for (nodes, gpus), group in groupby(sorted(tasks, key=machines), machines):
        alike = list(group)
        jobs = [alike[start : start + per_job] for start in range(0, len(alike), per_job)]
        settings: dict[str, Any] = {"gpus_per_node": gpus} if gpus else {}
        if nodes > 1:
            settings |= {"nodes": nodes, "srun_args": [f"--wait={ENDS_TOGETHER_S}"]}
        arrays += [(settings, jobs[start : start + longest]) for start in range(0, len(jobs), longest)]
    at_once = max(1, launcher.params["array_parallelism"] // max(1, len(arrays)))
    return (({**settings, "array_parallelism": at_once}, jobs) for settings, jobs in arrays)


def _max_array() -> int:
    """How many jobs an array may have here."""
    found = MAX_ARRAY.search(ask("scontrol", "show", "config") or "")
    return max(1, int(found[1])) if found else 1000


def _submit(launcher: Any, part: Part) -> list[WatchedJob]:
    import submitit  # of an optional package
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    settings, packs = part
    params = {**launcher.params, **settings}
    executor = submitit.AutoExecutor(
        folder=params.pop("submitit_folder"),
        cluster="slurm",
        slurm_max_num_timeout=params.pop("max_num_timeout"),
        slurm_python=f"{shlex.quote(sys.executable)} -u -m capsbench.launch.slurm_job",
    )
    del params["runs_per_job"]
    shared = OmegaConf.structured(BaseQueueConf).keys()
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in params.items()})
    there = copy.copy(launcher)  # what a job needs of it
    there.planned = ()
    with refusals(launcher.params.get("partition")):
        submitted = executor.map_array(there, [[task for _, task in pack] for pack in packs])
    jobs = []
    for job, pack in zip(submitted, packs, strict=True):
        submission = Submission(job.job_id, str(job.paths.stdout))
        jobs.append(WatchedJob(submission, [run.folder for run, _ in pack]))
        for run, _ in pack:
            submission.save(run.folder)
    refuse_never([job.job_id for job in submitted])
    first, last = submitted[0], submitted[-1]
    numbers = first.job_id if first is last else f"{first.job_id} to {last.job_id}"
    several = f"{len(packs)} jobs" if len(packs) > 1 else "a job"
    log.info("submitted %s, %s; logs are in %s", several, numbers, os.path.relpath(first.paths.folder.parent))
    return jobs
