"""What a checkpoint comes from: its run, the data, and every session of training so far."""

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import lightning
import torch

from capsbench.data import DataError
from capsbench.data.batch import LabelledImages
from capsbench.runs.environment import describe_device, git_commit
from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity


class Provenance(lightning.Callback):
    """Keep in checkpoints what they come from, and go on from none of another run or of other data.

    Args:
        identity, folder: of the run.

    Attributes:
        sessions: one row per session of training, see `Result.sessions`. Those of a version that kept none are missing.

    Raises:
        ValueError: raised inside `fit`: the checkpoint is of another run.
        DataError: raised inside `fit`: the data has changed.
    """

    def __init__(self, identity: Identity, folder: RunFolder) -> None:
        self.digest = identity.digest
        self.folder = folder
        self.data: dict[str, list[Any]] = {}
        self.sessions: list[dict[str, Any]] = []
        self._before: Mapping[str, Any] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare with the checkpoint that was loaded, if any, and begin a session."""
        self.data = fingerprint(trainer.datamodule.splits)  # type: ignore[attr-defined]
        if self._before.get("identity", self.digest) != self.digest:
            raise ValueError(
                f"the checkpoint in {self.folder} is of another run, {self._before['identity']}; were files moved "
                "between runs? Delete its folder checkpoints to train from the beginning"
            )
        before = self._before.get("data", self.data)
        if changed := [name for name in before.keys() | self.data.keys() if before.get(name) != self.data.get(name)]:
            raise DataError(
                f"the data has changed since {self.folder} was begun ({_compared(changed, before, self.data)}); put "
                "the former data back, or delete that folder to train on this data from the beginning"
            )
        step = self.sessions[-1]["to_step"] if self.sessions else 0
        device = trainer.strategy.root_device
        self.sessions.append(
            {
                "from_step": step,
                "to_step": step,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "git_commit": git_commit(),
                "device": describe_device(device),
                "devices": trainer.world_size,
                "threads": torch.get_num_threads(),
                "platform": f"{platform.system()} {platform.machine()}",
                "torch": str(torch.__version__),
            }
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note where the session begins, also after a checkpoint of a version that kept no sessions."""
        self.sessions[-1] |= {"from_step": trainer.global_step, "to_step": trainer.global_step}

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        """Note how far the session has come."""
        self.sessions[-1]["to_step"] = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"identity": self.digest, "data": self.data, "sessions": self.sessions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what a checkpoint has kept."""
        self._before = state_dict
        self.sessions = [dict(session) for session in state_dict["sessions"]]


def fingerprint(splits: Mapping[Any, LabelledImages]) -> dict[str, list[Any]]:
    """The number of examples of each split, and a digest of its images and labels."""
    found: dict[str, list[Any]] = {}
    for name, (images, labels) in splits.items():
        digest = hashlib.sha256(repr((tuple(images.shape), images.dtype)).encode())
        for part in (images, labels):
            digest.update(part.cpu().contiguous().numpy().data)
        found[str(name)] = [len(labels), digest.hexdigest()[:16]]
    return found


def _compared(changed: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say of each split how many examples it had and has."""

    def told(name: str) -> str:
        then, today = (f"{found[name][0]:,}" if name in found else "no" for found in (before, now))
        return f"{name}: other images or labels" if then == today else f"{name}: {then} examples then, {today} now"

    return "; ".join(map(told, sorted(changed)))
