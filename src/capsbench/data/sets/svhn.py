"""SVHN: cropped digits of house numbers."""

from pathlib import Path

import torch
import torchvision.datasets

from capsbench.data import sources
from capsbench.data.batch import LabelledImages
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataError


class SVHN(FileDataModule):
    """House numbers, 73,257 + 26,032 digits of 32×32×3 (Netzer et al. 2011). The "extra" images are not used."""

    image_shape = (3, 32, 32)
    num_classes = 10
    title = "SVHN"
    source = sources.SVHN

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Verify the checksums, then read with torchvision."""
        place = self.source.fetch(self.data_dir)
        return self._load_split(place, "train"), self._load_split(place, "test")

    def _load_split(self, place: Path, split: str) -> LabelledImages:
        file = next(file for file in self.source.files if file.name.startswith(split))
        self.source.check(place, file.name)
        try:
            raw = torchvision.datasets.SVHN(str(place), split)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{place / file.name} is not in SVHN's format: {error}") from error
        return LabelledImages(torch.from_numpy(raw.data).contiguous(), torch.from_numpy(raw.labels))
