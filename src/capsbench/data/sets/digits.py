"""The handwritten digits that come with scikit-learn: real, small, and available without a download."""

from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.module import ImageDataModule
from capsbench.data.stand_ins import enlarged_digits

TEST_FRACTION = 0.2


class Digits(ImageDataModule):
    """1,797 digits of 8×8 pixels (UCI "Optical Recognition of Handwritten Digits"), enlarged to 32×32.

    The split is stratified and the same for every seed: 1,437 to train and 360 to test.
    """

    image_shape = (1, 32, 32)
    num_classes = 10
    title = "digits"

    def load(self, split: StoredSplit) -> LabelledImages:
        """Enlarge the digits, divide them and give a part."""
        train, test = enlarged_digits(self.image_shape[1:]).divide(second=TEST_FRACTION)
        return train if split == "train" else test

    def untransformed_images(self) -> LabelledImages:
        """Give the test images."""
        return self.splits["test"]
