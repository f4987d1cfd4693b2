"""What the launcher presets of conf/launcher/ ask for."""

import os
from typing import Any

from capsbench import signals
from capsbench.launch.threads import let_threads_sleep

OBJECT_STORE = 78_643_200
"""Bytes of shared memory, as Hydra's launcher asks for: runs share no objects."""


def gpus_per_run(wanted: float | int | None = None, devices: int | str = 1) -> float:
    """GPUs that a run asks Ray for.

    Args:
        wanted: 0.25 lets four runs share a GPU; None: one for each device, or none where this machine has none.
        devices: of the run's trainer.

    Raises:
        ValueError: it is no number of at least 0.
    """
    if wanted is None:
        import torch  # late: a worker sets how its threads wait before torch is loaded

        asked = devices if isinstance(devices, int) and devices > 0 else 1
        return float(asked if torch.cuda.is_available() else 0)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted < 0:
        raise ValueError(f"gpus_per_run must be a number of at least 0, such as 0.25, got {wanted}")
    return wanted


def start_ray(launcher: Any) -> None:
    """Start Ray before its launcher does, and take the signals back that Ray then takes for itself."""
    from hydra_plugins.hydra_ray_launcher import _launcher_util  # of an optional package

    launcher.ray_cfg.init.setdefault("object_store_memory", OBJECT_STORE)
    _launcher_util.start_ray(launcher.ray_cfg.init)
    signals.install()


def enter_working_directory() -> None:
    """Prepare a Ray worker: relative paths mean what they mean where the sweep was started, and its threads sleep."""
    let_threads_sleep()
    os.chdir(os.environ["CAPSBENCH_WORKING_DIRECTORY"])
