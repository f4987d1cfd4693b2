"""What the launcher presets of conf/launcher/ ask for."""

import os

import torch


def gpus_per_run(wanted: float | int | None = None) -> float:
    """GPUs that a run asks Ray for.

    Args:
        wanted: 0.25 lets four runs share a GPU; None: one, or none where this machine has none.

    Raises:
        ValueError: it is no number from 0 to 1; a run uses one device.
    """
    if wanted is None:
        return float(torch.cuda.is_available())
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not 0 <= wanted <= 1:
        raise ValueError(f"gpus_per_run must be a number from 0 to 1, such as 0.25, got {wanted}")
    return wanted


def enter_working_directory() -> None:
    """Let a Ray worker stand where the sweep was started: relative paths then mean the same there."""
    os.chdir(os.environ["CAPSBENCH_WORKING_DIRECTORY"])
