"""The handwritten digits that come with scikit-learn: real, small, and there without a download."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from capsbench.data.base import ImageDataModule, LabelledImages

TEST_FRACTION = 0.2
SPLIT_SEED = 0


class Digits(ImageDataModule):
    """1,797 digits of 8×8 pixels (UCI "Optical Recognition of Handwritten Digits"), enlarged to 32×32.

    The split is fixed, whatever the seed: stratified, 1,437 to train and 360 to test.
    """

    image_shape = (1, 32, 32)
    num_classes = 10
    title = "digits"
    licence = "CC BY 4.0"
    origin = "scikit-learn (UCI Optical Recognition of Handwritten Digits)"

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Enlarge (bilinear), scale 0…16 to bytes, split."""
        pixels, labels = load_digits(return_X_y=True)
        small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
        images = F.interpolate(small, size=self.image_shape[1:], mode="bilinear").round().to(torch.uint8)
        train, test = train_test_split(
            np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
        )
        targets = torch.from_numpy(labels).long()
        return LabelledImages(images[train], targets[train]), LabelledImages(images[test], targets[test])

    def plain_images(self) -> LabelledImages:
        """The test images."""
        return self.splits["test"]
