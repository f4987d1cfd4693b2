"""Data sets that are read from known files, and what replaces them where these are missing."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.files import FileSet, at_home
from capsbench.data.module import ImageDataModule
from capsbench.data.stand_ins import stand_in_digits


class FileDataModule(ImageDataModule):
    """A data set that is read from files below `data_dir`.

    Args:
        needed: the file sets to read, where these are not `source` alone.
        data_dir: the folder of all data sets; ~ is the home folder.
        absent: what to do if files are missing: "fetch" downloads them; "stand_in" uses a few digits in the form of
            the set's images, to try things out. The title then says so, and no table shows such a run.
        **options: see `ImageDataModule`.

    Raises:
        ValueError: absent is neither of the two, or an option has no effect on this set.
    """

    source: ClassVar[FileSet]
    refused: ClassVar[Mapping[str, str]] = {}
    """Options of `ImageDataModule` that this set does not accept, with the reason."""

    def __init__(
        self,
        needed: tuple[FileSet, ...] | None = None,
        /,
        *,
        data_dir: str | os.PathLike[str] = "data",
        absent: str = "fetch",
        **options: Any,
    ) -> None:
        for name, reason in self.refused.items():
            if options.get(name):
                raise ValueError(f"{self.title} does not accept data.{name}: {reason}; leave it out")
        super().__init__(**options)
        if absent not in ("fetch", "stand_in"):
            raise ValueError(f"data.absent must be fetch or stand_in, got {absent}")
        self.needed = (self.source,) if needed is None else needed
        self.data_dir = at_home(data_dir)
        self.is_stand_in = absent == "stand_in" and not self.is_here()
        if self.is_stand_in:
            self.title, self.stands_in_for = f"{self.title} (stand-in)", self.title

    def is_here(self) -> bool:
        """Tell whether every file is in one of the places where it may be."""
        return all(files.find(self.data_dir) is not None for files in self.needed)

    def prepare_data(self) -> None:
        """Download missing files, unless stand-ins are used."""
        if not self.is_stand_in:
            self.fetch()

    def fetch(self) -> None:
        """Download the files that are missing.

        Raises:
            DataError: a download failed.
        """
        self.source.fetch(self.data_dir)

    def stand_in(self, split: StoredSplit) -> LabelledImages:
        """Make a split that replaces the one that `load` reads."""
        return stand_in_digits(split, self.image_shape, self.num_classes)

    def _load_or_stand_in(self, split: StoredSplit) -> LabelledImages:
        return self.stand_in(split) if self.is_stand_in else self.load(split)
