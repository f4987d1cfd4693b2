"""Splits that are too large for the memory: bytes in a file, read as they are needed."""

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from capsbench.data.batch import LabelledImages


class MappedImages:
    """Images in a NumPy file of bytes (example, channel, height, width); indexing reads some of them into memory.

    Args:
        path: of the file. It may be deleted while it is used.
        shape: that it must have.

    Raises:
        OSError, ValueError: it is not there, or another file.
    """

    dtype = torch.uint8

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError(f"{path} is another kind of file")
            found, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if found != shape or dtype != np.uint8:
                raise ValueError(f"{path} has {dtype} of shape {found}, must have bytes of shape {shape}")
            start = stream.tell()
            self._file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._all = np.frombuffer(self._file, np.uint8, offset=start).reshape(shape)
        self._rows = torch.arange(len(self._all))
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(examples, channels, height, width)."""
        return (len(self), *self._all.shape[1:])

    def __getitem__(self, indices: Int64[Tensor, "batch"] | slice) -> UInt8[Tensor, "batch channel height width"]:
        """Read images onto the device that trains."""
        rows = self._rows[indices if isinstance(indices, slice) else indices.cpu()]
        images = torch.from_numpy(self._all[rows.numpy()])
        if hasattr(mmap, "MADV_DONTNEED"):  # what was read would count as this process's memory
            self._file.madvise(mmap.MADV_DONTNEED)
        return images.to(self.device)

    def select(self, indices: Int64[Tensor, "example"]) -> "MappedImages":
        """Give some of the images, unread."""
        return self._with(self._rows[indices.cpu()], self.device)

    def to(self, device: torch.device) -> "MappedImages":
        """Let images be read onto another device."""
        return self._with(self._rows, device)

    def _with(self, rows: Tensor, device: torch.device) -> "MappedImages":
        images = object.__new__(MappedImages)
        images._file, images._all, images._rows, images.device = self._file, self._all, rows, device
        return images


class OnDisk(LabelledImages):
    """A split whose images are `MappedImages`, which `to` and `take` leave where they are."""

    images: MappedImages  # type: ignore[assignment]

    def to(self, device: torch.device) -> "OnDisk":
        """Let the split be read onto another device."""
        return OnDisk(self.images.to(device), self.labels.to(device))  # type: ignore[arg-type]

    def take(self, indices: Sequence[int]) -> "OnDisk":
        """Select the examples with these indices."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        return OnDisk(self.images.select(chosen), self.labels[chosen])  # type: ignore[arg-type]
