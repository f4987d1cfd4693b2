"""The devices that a run is trained on. Their kind and number decide its numbers, so they are part of what it is."""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

SIGNS = ("nvidia*", "nvhost*", "nvgpu*", "kfd", "dxg")
"""Files in /dev where Linux has a GPU: NVIDIA's, AMD's, that of Windows around it."""


def devices_of(config: DictConfig) -> dict[str, Any]:
    """What `trainer.accelerator`, `devices`, `num_nodes`, `strategy` and `sync_batchnorm` of a run come to.

    `auto` is decided here, by the machine that the command is given on; whoever trains the run takes this.

    Returns:
        Their `kind` ("cpu", "gpu", or another accelerator of Lightning's) and `number` on all machines; of several also
        the `strategy` if it is not "ddp", and `sync_batchnorm` if it is off, which it always is on CPUs.

    Raises:
        ValueError: trainer.devices is neither a positive number nor auto, or trainer.num_nodes is no positive number; a
            GPU is asked for, and nothing says that the run is to be trained on one.
    """
    trainer, gpus = config.trainer, config.get("gpus_per_run")
    asked = str(trainer.get("accelerator") or "auto").lower()
    kind = best_kind() if asked == "auto" else "gpu" if asked == "cuda" else asked
    wanted = gpus == "auto" or (isinstance(gpus, int | float) and gpus > 0)
    if asked == "auto" and kind == "cpu" and wanted:
        none = "" if gpus == "auto" else " gpus_per_run=0"
        raise ValueError(
            f"gpus_per_run={gpus} asks for a GPU, and this machine has none that trainer.accelerator=auto could mean; "
            f"set trainer.accelerator=gpu, or trainer.accelerator=cpu{none}"
        )
    number = _number(trainer, kind) * nodes_of(trainer)
    found: dict[str, Any] = {"kind": kind, "number": number}
    if number > 1:
        found |= {} if trainer.strategy == "ddp" else {"strategy": str(trainer.strategy)}
        found |= {} if trainer.get("sync_batchnorm") and kind != "cpu" else {"sync_batchnorm": False}
    return found


def as_overrides(devices: Mapping[str, Any], nodes: int = 1) -> list[str]:
    """The settings that mean these devices, which so many machines share, on any machine."""
    return [f"trainer.accelerator={devices['kind']}", f"trainer.devices={devices['number'] // nodes}"]


def nodes_of(trainer: Mapping[str, Any]) -> int:
    """How many machines train a run.

    Raises:
        ValueError: `num_nodes` is no positive number.
    """
    nodes = trainer.get("num_nodes", 1)
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1:
        raise ValueError(f"trainer.num_nodes must be a whole number of at least 1, got {nodes}")
    if nodes > 1 and trainer.get("strategy") is None:
        raise ValueError(f"trainer.num_nodes={nodes} needs trainer=ddp, which divides a run over several machines")
    return nodes


def _number(trainer: DictConfig, kind: str) -> int:
    devices = trainer.devices
    if devices in ("auto", -1):
        if kind == "cpu":
            return 1
        import torch  # late, as below

        return max(1, torch.cuda.device_count())
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f"trainer.devices must be a number of at least 1, or auto, got {devices}")
    if devices > 1 and trainer.get("strategy") is None:
        raise ValueError(f"trainer.devices={devices} needs trainer=ddp, which divides a run over several devices")
    return devices


@functools.cache
def best_kind() -> str:
    """The kind of this machine's best device.

    Where there may be a GPU, PyTorch is asked; loading it takes seconds, and planning a sweep without it milliseconds.
    """
    may_be = sys.platform != "linux" or any(any(Path("/dev").glob(sign)) for sign in SIGNS)
    if not may_be:
        return "cpu"
    import torch

    return "gpu" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
