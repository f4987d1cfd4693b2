"""affNIST's official test file, or its 32 parts."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
import torch
from scipy.io.matlab import MatReadError

from capsbench.data.batch import Described, LabelledImages
from capsbench.data.files import DataError
from capsbench.data.sources import AFFNIST

CANVAS = 40
TRANSFORM = "human_readable_transform"


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
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is not affNIST's file, a struct affNISTdata with image and label_int: {error}"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or len(pixels) != CANVAS**2:
        raise DataError(f"{path}: image must be {CANVAS**2} × N bytes, is {pixels.shape} of {pixels.dtype}")
    if labels.shape != pixels.shape[1:]:
        raise DataError(f"{path}: {pixels.shape[1]} images but {len(labels)} labels")
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
