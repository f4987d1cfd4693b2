"""Labels of one's own arrays: numbers, names, or rows of 0 and 1."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from capsbench.data.files import DataError
from capsbench.data.pictures import natural

log = logging.getLogger(__name__)

NAMES_TOLD = 10


class Labels(NamedTuple):
    """What arrays of labels tell.

    Attributes:
        of: for each split, class numbers (image,), or whether an image shows each class (image, class).
        num_classes: those that the training split shows.
        names: of the classes; None: they are called by their numbers.
        several: whether an image may show any number of classes.
    """

    of: dict[str, np.ndarray]
    num_classes: int
    names: list[str] | None
    several: bool


def read_labels(arrays: Mapping[str, np.ndarray], place: Path, *, measured: bool = False) -> Labels:
    """Number the classes of the training split, and name them where their labels are not their numbers.

    Args:
        arrays: labels by split: whole numbers or names (image,), or rows of 0 and 1 (image, class). If any row of any
            split has no 1 or more than one, images may show any number of classes.
        place: where they come from; messages name it.
        measured: a trained network is measured on them. Then classes are those of all splits, also a single one, and
            every column of rows is a class, shown or not.

    Raises:
        DataError: they are something else; or, to train on, are all the same, or a split has a class that the training
            split has not.
    """
    rows = {split: values for split, values in arrays.items() if _are_rows(values)}
    for split, values in rows.items():
        if not np.isin(values, (0, 1)).all():
            raise DataError(f"{place}: rows of labels must be of 0 and 1, the {split} split has other numbers")
    several = [split for split, values in rows.items() if (values.sum(axis=1) != 1).any()]
    if not several:
        columns = max((values.shape[1] for values in rows.values()), default=0) if measured else 0
        return _single({split: _one_each(values, place) for split, values in arrays.items()}, place, measured, columns)
    if other := [split for split in arrays if split not in rows]:
        raise DataError(
            f"{place}: labels of the {several[0]} split are rows of 0 and 1, several of an image, those of the "
            f"{other[0]} split are not; give both as rows of 0 and 1"
        )
    return _multi_hot({split: values.astype(bool) for split, values in rows.items()}, place, measured)


def most_frequent(labels: Tensor) -> float | None:
    """Give the share of images that show the most frequent set of classes; None where each shows as many."""
    if labels.dtype != torch.bool:
        return None
    return float(torch.unique(labels, dim=0, return_counts=True)[1].max()) / len(labels)


def strata(labels: Bool[Tensor, "image class"], smaller: float | int) -> list[int]:
    """Number the sets of labels of images; those too rare to be found in both parts of a division share a number.

    Args:
        labels: which classes each image shows.
        smaller: the number of images in the smaller part.
    """
    _, numbers, counts = torch.unique(labels, dim=0, return_inverse=True, return_counts=True)
    needed = len(labels) / max(smaller, 1)
    common = (counts >= needed).nonzero().flatten()
    is_rare = ~torch.isin(numbers, common)
    if len(common) and is_rare.sum() < needed:
        numbers[is_rare] = counts.argmax()
    else:
        numbers[is_rare] = len(counts)
    return list(numbers.tolist())


def describe(labels: Int64[Tensor, "image"] | Bool[Tensor, "image class"], names: Sequence[str]) -> list[str]:
    """Say in lines how many images show each class, and how many classes an image shows if that is any number."""
    several = labels.dtype == torch.bool
    counts = (labels.sum(dim=0) if several else labels.bincount(minlength=len(names))).tolist()
    sizes = [f"{name} {count:,}" for name, count in zip(names, counts, strict=True)]
    told = [f"training images of each class: {', '.join(_first(sizes))}"]
    if several:
        shown = labels.sum(dim=1)
        told.append(
            f"any number of labels: {shown.min()} to {shown.max()} an image, {shown.double().mean():.2f} in the mean; "
            f"{100 * (shown == 0).double().mean():.1f} % have none"
        )
    return told


def _first(names: Sequence[str]) -> list[str]:
    return [*names[:NAMES_TOLD], *(["…"] if len(names) > NAMES_TOLD else [])]


def _are_rows(labels: np.ndarray) -> bool:
    return labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf"


def _multi_hot(rows: Mapping[str, np.ndarray], place: Path, measured: bool) -> Labels:
    widths = {split: values.shape[1] for split, values in rows.items()}
    for split, width in widths.items():
        if width != widths["train"]:
            raise DataError(f"{place}: rows of labels have {widths['train']} columns to train on, {width} in {split}")
    if measured:
        return Labels(dict(rows), widths["train"], None, True)
    shown = rows["train"].any(axis=0)
    if shown.sum() < 2 or (rows["train"] == rows["train"][0]).all():
        raise DataError(f"{place}: all images have the same labels, or one class only; there must be at least two")
    for split, values in rows.items():
        if extra := np.flatnonzero(values.any(axis=0) & ~shown).tolist():
            raise DataError(f"{place}: the {split} split has a label that the train split has not, {extra[0]}")
    names = None if shown.all() else [str(number) for number in np.flatnonzero(shown)]
    if names is not None:
        _tell(names, "some of its labels are shown by no image to train on", place)
    return Labels({split: values[:, shown] for split, values in rows.items()}, int(shown.sum()), names, True)


def _single(labels: Mapping[str, np.ndarray], place: Path, measured: bool, columns: int) -> Labels:
    values = np.unique(np.concatenate(list(labels.values())) if measured else labels["train"])
    is_number = values.dtype.kind in "iu"
    values = np.union1d(values, np.arange(columns)) if is_number and columns else values
    classes = list(values) if is_number else sorted(map(str, values), key=natural)
    if len(classes) < 2 and not measured:
        raise DataError(f"{place}: all labels are {classes[0]}; there must be at least two classes")
    numbers = {each: number for number, each in enumerate(classes)}
    for split, found in labels.items():
        if extra := [each for each in np.unique(found).tolist() if each not in numbers]:
            raise DataError(f"{place}: the {split} split has a label that the train split has not, {extra[0]}")
    names = None
    if not is_number or classes != list(range(len(classes))):
        names = [str(each) for each in classes]
        if is_number:
            _tell(names, "its labels do not count from 0 without a gap", place)
    numbered = {
        split: np.array([numbers[each] for each in values.tolist()], np.int64) for split, values in labels.items()
    }
    return Labels(numbered, len(classes), names, False)


def _tell(names: list[str], why: str, place: Path) -> None:
    log.warning("%s: %s; its %d classes are %s", place, why, len(names), ", ".join(_first(names)))


def _one_each(labels: np.ndarray, place: Path) -> np.ndarray:
    """Give one label for each image: numbers or texts (image,)."""
    if _are_rows(labels):
        labels = labels.argmax(axis=1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == labels.round()).all():
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{place}: labels must be whole numbers, names, or rows of 0 and 1, are {labels.dtype} of shape "
            f"{labels.shape}"
        )
    return labels
