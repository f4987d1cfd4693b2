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
from capsbench.data.digest import Contents
from capsbench.runs.data_changes import begin_anew
from capsbench.runs.environment import describe_device, git_commit
from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity

AT_ONCE = 1024
"""Images that are compared together."""


class Provenance(lightning.Callback):
    """Keep in checkpoints what they come from, and go on from none of another run or of other data.

    Args:
        identity, folder: of the run.
        contents: what the files of one's own data hold; None: compare images and labels.

    Attributes:
        sessions: one row per session of training, see `Result.sessions`. Those of a version that kept none are missing.

    Raises:
        ValueError: raised inside `fit`: the checkpoint is of another run.
        DataError: raised inside `fit`: the data has changed.
    """

    def __init__(self, identity: Identity, folder: RunFolder, contents: Contents | None = None) -> None:
        self.digest = identity.digest
        self.folder = folder
        self.contents = contents
        self.data: dict[str, Any] = {}
        self.sessions: list[dict[str, Any]] = []
        self._before: Mapping[str, Any] = {}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compare with the checkpoint that was loaded, if any, and begin a session."""
        if self._before.get("identity", self.digest) != self.digest:
            raise ValueError(
                f"the checkpoint in {self.folder} is of another run, {self._before['identity']}; were files moved "
                "between runs? Delete its folder checkpoints to train from the beginning"
            )
        before = self._before.get("data", {})
        if self.contents is not None:
            self.check_files(before.get("files"))
            self.data = {"files": self.contents.record}
        if self.contents is None or (before and "files" not in before):  # of a version that looked at images alone
            found = fingerprint(trainer.datamodule.splits)  # type: ignore[attr-defined]
            if changed := [
                name for name in before.keys() | found.keys() if before and before.get(name) != found.get(name)
            ]:
                raise self._changed(_compared(changed, before, found))
            self.data = self.data or found
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

    def check_files(self, record: Mapping[str, Any] | None) -> None:
        """Compare with the files that a checkpoint names, if it does.

        Raises:
            DataError: they have changed.
        """
        if record and self.contents is not None and (changed := self.contents.changed_since(record)):
            raise self._changed(changed)

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"the data has changed since {self.folder} was begun ({how}); put the former data back, or "
            f"{begin_anew(self.folder)}"
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
        for start in range(0, len(labels), AT_ONCE):  # images may be on disk
            digest.update(images[start : start + AT_ONCE].cpu().contiguous().numpy().data)
        digest.update(labels.cpu().contiguous().numpy().data)
        found[str(name)] = [len(labels), digest.hexdigest()[:16]]
    return found


def _compared(changed: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say of each split how many examples it had and has."""

    def told(name: str) -> str:
        then, today = (f"{found[name][0]:,}" if name in found else "no" for found in (before, now))
        return f"{name}: other images or labels" if then == today else f"{name}: {then} examples then, {today} now"

    return "; ".join(map(told, sorted(changed)))
