"""Many files of pictures as bytes of one shape, read on all cores."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from capsbench.data.files import DataError
from capsbench.data.pictures import Fit, as_bytes, read_picture, resized

AT_ONCE = 2**26
"""Bytes of pictures that are read before they are handed on."""
OF_A_TASK = 8
"""Pictures that a thread reads one after the other."""
REMEDY = "mend or remove it, or leave it out by data.skip_unreadable=true"
"""For a picture that cannot be read."""
SHOWN_AFTER_S = 2.0
"""Seconds before there is a progress bar."""


@dataclass(frozen=True)
class Form:
    """What pictures become.

    Attributes:
        shape: (channels, height, width).
        is_resized: whether those of another size are made as large; otherwise they are counted.
        fit, background: see `resized` and `read_picture`.
    """

    shape: tuple[int, int, int]
    is_resized: bool
    fit: Fit = "stretch"
    background: str = "black"


@dataclass
class Read:
    """What was read.

    Attributes:
        sizes: how many pictures have each (width, height).
        unreadable: what is wrong with pictures that cannot be read, by their numbers.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    unreadable: dict[int, str] = field(default_factory=dict)


def decode(
    paths: Sequence[Path], form: Form, read: Read, *, skip_unreadable: bool = False, name: str = "", quiet: bool = False
) -> Iterator[np.ndarray]:
    """Read pictures in order, on all cores.

    Args:
        paths: of the files.
        form: of the pictures.
        read: tells at the end what was read.
        skip_unreadable: leave those black that cannot be read.
        name: of the pictures, for the progress bar.
        quiet: show no bar; there is none in any case where stderr is no terminal.

    Yields:
        Blocks of bytes (picture, channel, height, width). Each is overwritten by the next.

    Raises:
        DataError: a picture cannot be read.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    length = max(4 * OF_A_TASK * workers, min(len(paths), AT_ONCE // int(np.prod(form.shape))))
    block = np.empty((min(length, len(paths)), *form.shape), np.uint8)
    bar = tqdm(
        total=len(paths),
        desc=name,
        unit=" pictures",
        delay=SHOWN_AFTER_S,
        leave=False,
        disable=True if quiet else None,
    )
    with bar, ThreadPoolExecutor(workers) as pool:  # Pillow decodes and resizes without the interpreter's lock
        for start in range(0, len(paths), length):
            part = paths[start : start + length]

            def work(first: int, part: Sequence[Path] = part) -> list[tuple[int, int] | str]:
                return [_decode(part[i], form, block[i]) for i in range(first, min(first + OF_A_TASK, len(part)))]

            number = start
            for found in pool.map(work, range(0, len(part), OF_A_TASK)):
                for each in found:
                    if isinstance(each, str):
                        if not skip_unreadable:
                            raise DataError(f"{each}; {REMEDY}")
                        read.unreadable[number] = each
                    else:
                        read.sizes[each] += 1
                    number += 1
                bar.update(len(found))
            yield block[: len(part)]


def _decode(path: Path, form: Form, row: np.ndarray) -> tuple[int, int] | str:
    """Read a picture into its row of a block; return its size, or what is wrong with it."""
    row[:] = 0
    try:
        image = read_picture(path, form.background)
    except DataError as error:
        return str(error)
    size, (channels, height, width) = image.size, form.shape
    if form.is_resized:
        image = resized(image, (width, height), form.fit)
    if image.size == (width, height):
        row[:] = as_bytes(image, channels)
    return size
