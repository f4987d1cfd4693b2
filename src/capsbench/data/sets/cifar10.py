"""CIFAR-10: ten kinds of objects."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import torch
import torchvision.datasets
from filelock import FileLock

from capsbench.data import sources
from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataError


class CIFAR10(FileDataModule):
    """Ten kinds of objects, 50,000 + 10,000 pictures of 32×32×3 (Krizhevsky 2009).

    The set is a tar archive of pickles; each is opened only after its checksum was verified.
    """

    image_shape = (3, 32, 32)
    num_classes = 10
    title = "CIFAR-10"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    torchvision_class: ClassVar[type[torchvision.datasets.CIFAR10]] = torchvision.datasets.CIFAR10
    source = sources.CIFAR10

    def is_here(self) -> bool:
        """Tell whether the archive or its extracted files can be found."""
        return self._extracted_place() is not None or super().is_here()

    def fetch(self) -> None:
        """Download and extract the archive, unless its extracted files are here."""
        self._extracted()

    def load(self, split: StoredSplit) -> LabelledImages:
        """Read with torchvision, which verifies each file's checksum before it opens it."""
        return self._load_split(self._extracted(), train=split == "train")

    def _extracted(self) -> Path:
        """Find the folder that holds a complete `cifar-10-batches-py`; extract the archive if there is none."""
        complete = self._extracted_place()
        if complete is not None:
            return complete
        place = self.source.fetch(self.data_dir)
        archive = self.source.files[0].name
        self.source.check(place, archive)
        target = self.data_dir / self.source.folder
        try:
            target.mkdir(parents=True, exist_ok=True)
            with FileLock(target / ".lock"):
                if not self._is_complete(target):  # another process may have extracted it meanwhile
                    self._extract(place / archive, target)
        except OSError as error:
            raise DataError(f"{place / archive} could not be extracted into {target}: {error}") from error
        if not self._is_complete(target):
            raise DataError(
                f"{place / archive} does not hold CIFAR-10's batches; delete it to have it downloaded again"
            )
        return target

    def _extracted_place(self) -> Path | None:
        places = (self.data_dir / self.source.folder, self.data_dir)
        return next((place for place in places if self._is_complete(place)), None)

    def _extract(self, archive: Path, target: Path) -> None:
        name = self.torchvision_class.base_folder
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            torchvision.datasets.utils.extract_archive(str(archive), temporary)
            if Path(temporary, name).is_dir():
                shutil.rmtree(target / name, ignore_errors=True)
                Path(temporary, name).rename(target / name)

    def _is_complete(self, place: Path) -> bool:
        if not (place / self.torchvision_class.base_folder).is_dir():
            return False
        try:
            self.torchvision_class(str(place), train=False)
        except (RuntimeError, OSError):
            return False
        return True

    def _load_split(self, place: Path, *, train: bool) -> LabelledImages:
        raw = self.torchvision_class(str(place), train=train)
        return LabelledImages(torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(raw.targets))
