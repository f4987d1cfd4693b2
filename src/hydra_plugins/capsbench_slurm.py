"""Hydra's launcher for Slurm; jobs are followed at the terminal. Hydra looks for launchers in this namespace."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

if TYPE_CHECKING:
    from capsbench.launch.sweep import PlannedRun

with suppress(ImportError):  # an optional package
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    @dataclass
    class SlurmConf(SlurmQueueConf):  # type: ignore[misc]
        """What Hydra's launcher takes, and how many runs a job trains, one after the other."""

        _target_: str = "hydra_plugins.capsbench_slurm.FollowedSlurmLauncher"
        runs_per_job: int = 1

    ConfigStore.instance().store(group="hydra/launcher", name="capsbench_slurm", node=SlurmConf(), provider="capsbench")

    class FollowedSlurmLauncher(SlurmLauncher):  # type: ignore[misc]
        """Submits runs with submitit, and tells what becomes of each.

        Attributes:
            stops_runs: a signal to the command ends the command alone.
            spans_nodes: a run may be trained on several machines.
            planned: the runs of all jobs that it is given, in their order.
            causes: after `launch`, why runs came to no end, by their folders, where their jobs tell.
        """

        stops_runs = False
        spans_nodes = True

        def __init__(self, **params: Any) -> None:
            super().__init__(**params)
            self.planned: Sequence[PlannedRun] = ()
            self.causes: dict[Any, str] = {}

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
            """Submit these runs and wait until their jobs have ended.

            Raises:
                ValueError: a setting of the launcher cannot be used.
            """
            from capsbench.launch import slurm  # late: Hydra imports every plugin in every application

            runs = self.planned[initial_job_idx : initial_job_idx + len(job_overrides)]
            self.causes |= slurm.launch(self, runs, job_overrides)
            return []  # the runs' folders tell what came out

        def __call__(self, tasks: Sequence[Any]) -> None:
            """Train the runs of a job, in its process."""
            from capsbench.launch import slurm_job

            slurm_job.train(super().__call__, tasks, int(self.params["max_num_timeout"]))
