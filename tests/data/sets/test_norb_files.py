"""smallNORB's binary matrix files: what is read, and what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capsbench.data import DataError
from capsbench.data.files import DataFile, FileSet
from capsbench.data.sets.norb_files import FORMS, file_name, read_pairs

PAIRS = 36
PAIR = np.arange(PAIRS)
PARTS = {
    "dat": np.arange(PAIRS * 2 * 96 * 96).reshape(PAIRS, 2, 96, 96).astype(np.uint8),
    "cat": (PAIR % 5).astype(np.int32),
    "info": np.stack([PAIR % 10, PAIR % 9, 2 * (PAIR % 18), PAIR % 6], axis=1).astype(np.int32),
}


def matrix(array: np.ndarray) -> bytes:
    """An array in LeCun's binary matrix format."""
    magic = {np.dtype(np.uint8): 0x1E3D4C55, np.dtype(np.int32): 0x1E3D4C54}[array.dtype]
    sizes = [*array.shape, 1, 1, 1][: max(3, array.ndim)]
    return np.array([magic, array.ndim, *sizes], "<i4").tobytes() + array.tobytes()


def write(data_dir: Path, contents: dict[str, bytes]) -> FileSet:
    """Write the files of the training split into data_dir/tiny."""
    folder = data_dir / "tiny"
    folder.mkdir()
    files = []
    for part, content in contents.items():
        name = file_name("train", part)
        (folder / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        files.append(DataFile(name, md5, (f"http://localhost:9/{name}.gz",), "0" * 32, 0.1))
    return FileSet("tiny", tuple(files))


def damaged(part: str, change: Callable[[np.ndarray], np.ndarray]) -> tuple[str, bytes]:
    """A training file whose array is changed before it is written."""
    return part, matrix(change(PARTS[part]))


def replaced(column: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    """A change that puts a value into row 3."""

    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.reshape(PAIRS, -1)[3, column] = value
        return changed

    return change


DAT, CAT, INFO = (matrix(PARTS[part]) for part in FORMS)
DAMAGES = {
    "bytes for integers": (damaged("cat", lambda a: a.astype(np.uint8)), "magic number 0x1e3d4c54, has 0x1e3d4c55"),
    "another format": (("dat", b"\xff" * 5000), "magic number 0x1e3d4c55, has 0xffffffff"),
    "too few dimensions": (damaged("dat", lambda a: a[:, 0]), "must have 4 dimensions, has 3"),
    "another image size": (damaged("dat", lambda a: a[..., :95]), "N×2×96×96 with N at least 1, has 36×2×96×95"),
    "another info width": (damaged("info", lambda a: a[:, :3]), "N×4×1 with N at least 1, has 36×3×1"),
    "no example": (damaged("cat", lambda a: a[:0]), "N×1×1 with N at least 1, has 0×1×1"),
    "padding not 1": (("cat", CAT[:12] + b"\2" + CAT[13:]), "N×1×1 with N at least 1, has 36×2×1"),
    "fewer categories": (damaged("cat", lambda a: a[:-1]), "must have 36 examples, as .*dat.mat has, has 35"),
    "fewer viewpoints": (damaged("info", lambda a: a[:-1]), "must have 36 examples, as .*dat.mat has, has 35"),
    "truncated": (("dat", DAT[:-1]), "must hold 663552 bytes after its header, for 36 examples, has 663551"),
    "too long": (("info", INFO + b"\0"), "must hold 576 bytes .* has 577"),
    "truncated header": (("dat", DAT[:10]), "a header of 24 bytes, has 10 bytes in all"),
    "empty": (("cat", b""), "a header of 20 bytes, has 0 bytes in all"),
    "category 5": (damaged("cat", replaced(0, 5)), "must have every category in 0…4, has 5"),
    "category -1": (damaged("cat", replaced(0, -1)), "must have every category in 0…4, has -1"),
    "instance 10": (damaged("info", replaced(0, 10)), "must have every instance in 0…9, has 10"),
    "elevation 9": (damaged("info", replaced(1, 9)), "must have every elevation in 0…8, has 9"),
    "azimuth 36": (damaged("info", replaced(2, 36)), "azimuth in 0…34 in steps of 2, has 36"),
    "odd azimuth": (damaged("info", replaced(2, 3)), "azimuth in 0…34 in steps of 2, has 3"),
    "lighting 6": (damaged("info", replaced(3, 6)), "must have every lighting in 0…5, has 6"),
}


def test_good_files(tmp_path: Path) -> None:
    source = write(tmp_path, {part: matrix(array) for part, array in PARTS.items()})
    for found, array in zip(read_pairs(source, tmp_path, "train"), PARTS.values(), strict=True):
        assert np.array_equal(found, array)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_in_the_format_is_refused(tmp_path: Path, damage: str) -> None:
    (part, content), message = DAMAGES[damage]
    source = write(tmp_path, {part: matrix(array) for part, array in PARTS.items()} | {part: content})
    with pytest.raises(DataError, match=message) as error:
        read_pairs(source, tmp_path, "train")
    assert str(error.value).startswith(f"{tmp_path / 'tiny' / file_name('train', part)} must ")
    assert "\n" not in str(error.value)
