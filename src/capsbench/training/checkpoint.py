"""Checkpoint files: written atomically, verified before they are used, never executed."""

import pickle
import stat
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from capsbench.data.files import written_atomically


class CheckpointError(ValueError):
    """A checkpoint is damaged, or is none; the message names the file."""


def save_checkpoint(content: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint atomically.

    Args:
        content: tensors and plain values.
        path: of the file; its folder is made if it does not exist.
        previous: where the file that is replaced is kept; None: it is not. A process that is killed between the two
            renames leaves this one alone, whole.

    Raises:
        OSError, RuntimeError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(path) as temporary:
        with temporary.open("wb") as stream:
            try:
                torch.save(content, stream)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # a full disk, after which PyTorch cannot end the file
                    raise error.__context__ from None
                raise
        if previous is not None and path.exists():
            path.replace(previous)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Nothing that it holds is executed.

    torch.save writes a zip archive with a CRC-32 of every record, and torch.load does not compare them: a flipped bit
    would go unnoticed. They are compared here first.

    Raises:
        CheckpointError: the file is damaged, or holds more than tensors and plain values.
        OSError: it is not there, or may not be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CheckpointError(f"{path} is no file of its own, but a link, a folder or a pipe")
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                _verify(archive, path.stat().st_size)
            # Mapped, no tensor can claim more numbers than the file has; copied, the file may be replaced.
            content = deepcopy(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{path} holds more than tensors and plain values; none of it was run") from error
        except Exception as error:  # there are many kinds of damage
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{path} is damaged ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint, it holds a {type(content).__name__}")
    return content


def _verify(archive: zipfile.ZipFile, size: int) -> None:
    """Compare the checksum of every record.

    Raises:
        ValueError: a record is another than was written, or its size is more than there is.
    """
    records = archive.infolist()
    if any(record.compress_size != record.file_size for record in records):
        raise ValueError("a record is compressed, which torch.save never does")
    if sum(record.file_size for record in records) > size:
        raise ValueError("its records claim to be larger than the file")
    if (wrong := archive.testzip()) is not None:
        raise ValueError(f"{wrong} has another checksum than when it was written")


class VerifiedIO(TorchCheckpointIO):
    """Lets Lightning read checkpoints by `read_checkpoint` alone."""

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; see `read_checkpoint`."""
        return read_checkpoint(Path(path))
