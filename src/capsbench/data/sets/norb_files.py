"""smallNORB's files: their names, checksums and binary matrix format."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from capsbench.data.batch import SplitName
from capsbench.data.files import DataError, FileSet
from capsbench.data.sources import NORB_STEMS

SOURCE_SIZE = 96
CLASSES = range(5)
INFO = {"instance": range(10), "elevation": range(9), "azimuth": range(0, 36, 2), "lighting": range(6)}
"""The columns of the info files and their values; an azimuth is in tens of degrees."""


class MatrixForm(NamedTuple):
    """The form of a binary matrix file: the shape and type of the element that it has for each example."""

    magic: int
    dtype: str
    element: tuple[int, ...]


FORMS = {
    "dat": MatrixForm(0x1E3D4C55, "<u1", (2, SOURCE_SIZE, SOURCE_SIZE)),
    "cat": MatrixForm(0x1E3D4C54, "<i4", ()),
    "info": MatrixForm(0x1E3D4C54, "<i4", (len(INFO),)),
}


class Pairs(NamedTuple):
    """The stereo pairs of a split: images (pair, 2, 96, 96), their categories (pair,) and viewpoints (pair, 4)."""

    dat: np.ndarray
    cat: np.ndarray
    info: np.ndarray


def file_name(split: SplitName, part: str) -> str:
    """Name the file of a split that holds a part: "dat", "cat" or "info"."""
    return f"{NORB_STEMS[split]}-{part}.mat"


def read_pairs(source: FileSet, data_dir: Path, split: SplitName) -> Pairs:
    """Read the three files of a split, download them first if they are missing, and check their content.

    Raises:
        DataError: a file is missing, damaged or not in smallNORB's format.
    """
    place = source.fetch(data_dir)
    paths = {part: place / file_name(split, part) for part in FORMS}
    pairs = Pairs(**{part: parse_matrix(source.read(place, path.name), path, part) for part, path in paths.items()})
    for part, found in (("cat", len(pairs.cat)), ("info", len(pairs.info))):
        if found != len(pairs.dat):
            raise DataError(
                f"{paths[part]} must have {len(pairs.dat)} examples, as {paths['dat'].name} has, has {found}"
            )
    _check_values(paths["cat"], "category", pairs.cat, CLASSES)
    for column, (name, values) in enumerate(INFO.items()):
        _check_values(paths["info"], name, pairs.info[:, column], values)
    return pairs


def parse_matrix(content: bytes, path: Path, part: str) -> np.ndarray:
    """Parse the content of a binary matrix file into its examples: (example, *element), a view of the content.

    A header of little-endian int32 gives a magic number for the type, the number of dimensions, and the dimensions; a
    file with fewer than three dimensions appends ones. Source: the format's description beside LeCun, Huang and
    Bottou's data.

    Args:
        content: of the uncompressed file.
        path: of the file, for messages.
        part: "dat", "cat" or "info".

    Raises:
        DataError: the type, the dimensions or the length is not what the part must have.
    """
    form = FORMS[part]
    ndim = 1 + len(form.element)
    header_length = 4 * (2 + max(3, ndim))
    if len(content) < header_length:
        raise DataError(f"{path} must begin with a header of {header_length} bytes, has {len(content)} bytes in all")
    magic, found_ndim, *sizes = np.frombuffer(content, "<i4", header_length // 4).tolist()
    if magic != form.magic:
        raise DataError(f"{path} must begin with the magic number {form.magic:#010x}, has {magic & 0xFFFFFFFF:#010x}")
    if found_ndim != ndim:
        raise DataError(f"{path} must have {ndim} dimensions, has {found_ndim}")
    padded = [*form.element, 1, 1][: max(3, ndim) - 1]
    if sizes[0] < 1 or sizes[1:] != padded:
        raise DataError(f"{path} must have dimensions N×{_times(padded)} with N at least 1, has {_times(sizes)}")
    length = np.dtype(form.dtype).itemsize * math.prod(sizes)
    if len(content) - header_length != length:
        raise DataError(
            f"{path} must hold {length} bytes after its header, for {sizes[0]} examples, has "
            f"{len(content) - header_length}"
        )
    return np.frombuffer(content, form.dtype, offset=header_length).reshape(sizes[:ndim])


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _check_values(path: Path, name: str, found: np.ndarray, allowed: range) -> None:
    wrong = found[~np.isin(found, allowed)]
    if wrong.size:
        steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
        raise DataError(f"{path} must have every {name} in {allowed[0]}…{allowed[-1]}{steps}, has {wrong[0]}")
