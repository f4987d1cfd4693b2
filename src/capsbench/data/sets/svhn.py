"""SVHN: cropped digits of house numbers."""

import torch
import torchvision.datasets

from capsbench.data import sources
from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataError


class SVHN(FileDataModule):
    """House numbers, 73,257 + 26,032 digits of 32×32×3 (Netzer et al. 2011). The "extra" images are not used."""

    image_shape = (3, 32, 32)
    num_classes = 10
    title = "SVHN"
    source = sources.SVHN

    def load(self, split: StoredSplit) -> LabelledImages:
        """Verify the checksum, then read with torchvision."""
        place = self.source.fetch(self.data_dir)
        file = next(file for file in self.source.files if file.name.startswith(split))
        self.source.check(place, file.name)
        try:
            raw = torchvision.datasets.SVHN(str(place), split)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{place / file.name} is not in SVHN's format: {error}") from error
        return LabelledImages(torch.from_numpy(raw.data).contiguous(), torch.from_numpy(raw.labels))
