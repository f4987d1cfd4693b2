"""Which files one's own data sets read. It needs no PyTorch, so that finished runs are compared at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from capsbench.data.files import DataError, at_home
from capsbench.data.pictures import PASSED_OVER, files_below, in_order

SplitName = Literal["train", "val", "test"]
Measured = SplitName | Literal["all"]
"""What a trained network is measured on."""
SPLIT_FOLDERS: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a split may be called, in small or capital letters."""
DIVIDED_ARRAYS: Mapping[SplitName, tuple[tuple[str, str], ...]] = {
    split: ((f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}"), (f"X_{split}", f"y_{split}"))
    for split in get_args(SplitName)
}
"""What images and labels of a split are called: as ours and MedMNIST's, or as in Keras."""
UNDIVIDED_ARRAYS = (("images", "labels"), ("x", "y"), ("X", "y"))
ARRAYS = {name for pairs in (*DIVIDED_ARRAYS.values(), UNDIVIDED_ARRAYS) for pair in pairs for name in pair}


def own_files(data: Mapping[str, Any]) -> tuple[Path, list[Path]] | None:
    """List the files that a data set reads.

    Args:
        data: its settings.

    Returns:
        The folder that their names are relative to, and the files; None of a set that is not one's own.

    Raises:
        DataError, OSError: they are not there.
    """
    name = str(data.get("_target_")).rpartition(".")[2]
    if name not in ("Arrays", "ImageFolder"):
        return None
    path = at_home(data.get("data_dir", "")) / at_home(data["path"])
    if name == "Arrays":
        return path if path.is_dir() else path.parent, array_files(path)
    return path, picture_files(path, val_split=bool(data.get("val_split")))


def array_files(path: Path) -> list[Path]:
    """List the .npy files in a folder that are read, or the file itself."""
    return [each for each in sorted(path.glob("*.npy")) if each.stem in ARRAYS] if path.is_dir() else [path]


def picture_files(path: Path, *, val_split: bool) -> list[Path]:
    """List all files of pictures below a folder that are read.

    Raises:
        DataError: there is no such folder.
    """
    folders = split_folders(path)
    if "test" in folders and not val_split:
        folders.pop("val", None)
    classes = [each for folder in folders.values() for each in folders_in(folder)] if folders else folders_in(path)
    return [file for folder in classes for file in files_below(folder)]


def split_folders(path: Path) -> dict[SplitName, Path]:
    """Find the folders of splits; empty where those of classes lie directly in the folder.

    Raises:
        DataError: there is no such folder, or two are of one split.
    """
    found: dict[SplitName, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        there = [folder for folder in folders_in(path) if folder.name.lower() in names]
        if len(there) > 1:
            raise DataError(
                f"{path} has both {there[0].name}/ and {there[1].name}/; put their pictures into one of them"
            )
        if there:
            found[split] = there[0]
    return found


def not_divided(path: Path, test_fraction: float, measured: Measured | None, error: ValueError) -> str:
    """Say why images cannot be divided into those to train on and those to test on, and what to do."""
    mend = "give another" if measured is None else "give another, or split=all, which divides nothing"
    asked = f"data.test_fraction={test_fraction}"
    return f"{path} cannot be divided into training and test images with {asked}: {error}; {mend}"


def folders_in(place: Path) -> list[Path]:
    """List the folders in a folder as people sort them, without what systems leave there.

    Raises:
        DataError: there is no such folder.
    """
    if not place.is_dir():
        raise DataError(f"data.path: there is no folder {place}")
    return in_order(entry for entry in place.iterdir() if entry.is_dir() and not PASSED_OVER.match(entry.name))
