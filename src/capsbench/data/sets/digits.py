"""The handwritten digits that come with scikit-learn: real, small, and there without a download."""

from sklearn.model_selection import train_test_split

from capsbench.data.module import SPLIT_SEED, ImageDataModule, LabelledImages, enlarged_digits

TEST_FRACTION = 0.2


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
        """Enlarge, split."""
        digits = enlarged_digits(self.image_shape[1:])
        labels = digits.labels.tolist()
        train, test = train_test_split(
            range(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=SPLIT_SEED
        )
        return digits.take(train), digits.take(test)

    def untransformed_images(self) -> LabelledImages:
        """The test images."""
        return self.splits["test"]
