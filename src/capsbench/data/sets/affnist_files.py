"""affNIST's official test file, or its 32 parts."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
import torch
from scipy.io.matlab import MatReadError

from capsbench.data.batch import Described, LabelledImages
from capsbench.data.files import DataError, check_size
from capsbench.data.sources import AFFNIST

CANVAS = 40
TRANSFORM = "human_readable_transform"
MOST_BYTES = AFFNIST.files[0].most_bytes
"""Of the uncompressed content of a file: nobody has published a checksum."""
CHUNK = 2**20
COMPRESSED = 15
"""The type of a compressed element in MATLAB's format, version 5."""


def find_official(folder: Path) -> list[Path]:
    """Find the whole file in the folder, or else its parts, in their order."""
    (file,) = AFFNIST.files
    whole, parts = folder / file.name, [folder / part for part in file.parts]
    return parts if not whole.is_file() and all(part.is_file() for part in parts) else [whole]


def read_official(paths: Sequence[Path]) -> Described:
    """Read the images and labels of affNIST's `test.mat` or of its parts.

    Returns:
        The images with the six numbers of each image's `human_readable_transform`, the last two of which are taken as
        its shifts in pixels; with none where the files have none.

    Raises:
        DataError: a file is not the struct `affNISTdata` with image (1600 × N bytes) and label_int (N digits).
    """
    images, labels, infos = (torch.cat(parts) for parts in zip(*map(_read, paths), strict=True))
    return Described.of(LabelledImages(images, labels), infos)


def _read(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    try:
        check_size(path, _inflated_bytes(path, MOST_BYTES), MOST_BYTES)
        data = scipy.io.loadmat(path, variable_names=["affNISTdata"])["affNISTdata"][0, 0]
        pixels, labels = data["image"], data["label_int"].ravel()
        transform = data[TRANSFORM] if TRANSFORM in data.dtype.names else np.empty((0, len(labels)))
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        NotImplementedError,
        MatReadError,
        MemoryError,
        struct.error,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is not affNIST's file, a struct affNISTdata with image and label_int: {error}"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or len(pixels) != CANVAS**2:
        raise DataError(f"{path}: image must be {CANVAS**2} × N bytes, is {pixels.shape} of {pixels.dtype}")
    if labels.shape != pixels.shape[1:]:
        raise DataError(f"{path}: {pixels.shape[1]} images but {len(labels)} labels")
    if not np.issubdtype(labels.dtype, np.number):
        raise DataError(f"{path}: labels must be whole numbers from 0 to 9, are {labels.dtype}")
    wrong = labels[~np.isin(labels, range(10))]
    if wrong.size:
        raise DataError(f"{path}: labels must be whole numbers from 0 to 9, found {wrong[0]}")
    if transform.shape not in ((0, len(labels)), (6, len(labels))):
        raise DataError(f"{path}: {TRANSFORM} must be 6 × {len(labels)} numbers, is {transform.shape}")
    # MATLAB stores columns one after the other, so transposing copies nothing.
    images = torch.from_numpy(np.ascontiguousarray(pixels.T)).view(-1, 1, CANVAS, CANVAS)
    return (
        images,
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(np.ascontiguousarray(transform.T, dtype=np.float64)),
    )


def _inflated_bytes(path: Path, most: int) -> int:
    """Count the bytes of a file's compressed elements when they are inflated, as far as `most` and a little beyond.

    After a header of 128 bytes, whose last two tell the byte order, each element has a tag of its type and size.
    Source: MAT-File Format, version 5, by The MathWorks.
    """
    found = 0
    with path.open("rb") as stream:
        order = ">" if stream.read(128)[126:] == b"MI" else "<"
        while len(tag := stream.read(8)) == 8 and found <= most:
            kind, left = struct.unpack(f"{order}II", tag)
            if kind != COMPRESSED:
                stream.seek(left, 1)
                continue
            inflate = zlib.decompressobj()
            while left and found <= most and (packed := stream.read(min(left, CHUNK))):
                left -= len(packed)
                while packed and found <= most:
                    found += len(inflate.decompress(packed, CHUNK))
                    packed = inflate.unconsumed_tail
    return found
