"""Hydra's launcher for Ray, whose runs can be stopped. Hydra looks for launchers in this namespace."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore

if TYPE_CHECKING:
    from capsbench.launch.sweep import PlannedRun

with suppress(ImportError):  # an optional package
    from hydra_plugins.hydra_ray_launcher._config import RayLauncherConf
    from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher

    @dataclass
    class RayConf(RayLauncherConf):
        """What Hydra's launcher takes."""

        _target_: str = "hydra_plugins.capsbench_ray.StoppableRayLauncher"

    ConfigStore.instance().store(group="hydra/launcher", name="capsbench_ray", node=RayConf(), provider="capsbench")

    class StoppableRayLauncher(RayLauncher):
        """Trains runs as Ray tasks, and tells them to save when a signal comes.

        Attributes:
            stops_runs: a signal to the command stops its runs, wherever they are.
            planned: the runs of all tasks that it is given, in their order.
            causes: after `launch`, why runs came to no end, by their folders, where Ray tells.
        """

        stops_runs = True

        def __init__(self, **params: Any) -> None:
            super().__init__(**params)
            self.planned: Sequence[PlannedRun] = ()
            self.causes: dict[Any, str] = {}

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
            """Train these runs.

            Raises:
                ValueError: no node of the cluster has what a run asks for.
                ConnectionError: there is no such cluster, or it ended.
            """
            from capsbench.launch import ray  # late: Hydra imports every plugin in every application

            runs = self.planned[initial_job_idx : initial_job_idx + len(job_overrides)]
            self.causes |= ray.launch(self, runs, job_overrides, initial_job_idx)
            return []  # the runs' folders tell what came out
