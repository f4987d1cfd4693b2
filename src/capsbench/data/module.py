"""The mechanism of every data set: images in memory as bytes, batches computed from (seed, split, epoch, indices).

A new data set is a subclass of `ImageDataModule` that states its shape and loads its images, and a YAML file in
`conf/data/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import lightning
import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor
from torch.utils.data import DataLoader

from capsbench.data.augmentation import Augmentation
from capsbench.data.batch import Batch, BatchKey, LabelledImages, SplitName, StoredSplit
from capsbench.data.digest import Contents
from capsbench.data.files import DataError
from capsbench.data.preparation import Preparation
from capsbench.data.randomness import Draw
from capsbench.data.sampler import BatchDataset, EpochSampler
from capsbench.data.transforms import stretch
from capsbench.data.weights import Weights, check_weights, class_weights


class ImageDataModule(lightning.LightningDataModule, ABC):
    """Images and labels of one data set, ready for training.

    Args:
        seed: decides the order of the epochs and the augmentation.
        batch_size: training examples per step, over all ranks.
        eval_batch_size: examples per step of evaluation.
        standardized: scale each image to mean 0, variance 1; otherwise to [0, 1].
        augmentation: of the training images; None: none.
        resize: scale images to a square of so many pixels a side, before all else; None: leave them.
        crop: the side of a square that is cut out: in training at a random place, else in the middle; None: cut none.
        standardize_before_crop: standardise the whole image before it is padded with 0, its mean, and cropped, as the
            authors' code does; otherwise pad with black, crop and then standardise.
        val_fraction: the share of the training set that is held out to tune on: stratified, the same for every seed.
            With 0, as in every table, the curves show the test split, and nothing is chosen by them.
        subset, test_subset: the number of training and of test examples to use: stratified, the same for every seed.
            Such a run is marked.
        class_weights: what the loss of a training example counts, by its class: "balanced" or a number for each class,
            see `capsbench.data.weights`; None: all count alike.

    Raises:
        ValueError: a value is out of its range.
        DataError: from `prepare_data` and `setup`: data is missing or damaged, or a label is not one of its classes.
    """

    image_shape: tuple[int, int, int]
    """(channels, height, width) of an image before `resize` and `crop`."""
    num_classes: int
    labels_per_image: int | None = 1
    """None: any number; labels then say of each class whether an image shows it."""
    class_names: Sequence[str] | None = None
    """What the classes are called; None: their numbers."""
    title: str
    """The set's name in tables."""
    stands_in_for: str | None = None
    """The title of the set that these images replace."""
    shuffle_buffer: int | None = None
    """How many training examples the next one is drawn from; None: all that are left of the epoch."""
    repeats_an_epoch: bool = False
    """Whether every epoch has the batches of the first, to overfit them."""
    is_stand_in: bool = False
    """Whether these are a few digits in place of a set whose files are missing."""
    augments: bool = True
    """Whether training images are augmented; otherwise they are prepared as in evaluation."""

    def __init__(
        self,
        *,
        seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        standardized: bool = False,
        augmentation: Augmentation | None = None,
        resize: int | None = None,
        crop: int | None = None,
        standardize_before_crop: bool = False,
        val_fraction: float = 0.0,
        subset: int | None = None,
        test_subset: int | None = None,
        class_weights: Weights = None,
    ) -> None:
        super().__init__()
        for name, value in {
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "subset": subset,
            "test_subset": test_subset,
            "resize": resize,
            "crop": crop,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction must be at least 0 and below 1, got {val_fraction}")
        is_cropped = crop is not None or (augmentation is not None and augmentation.crop_padding > 0)
        if standardize_before_crop and not (standardized and is_cropped):
            raise ValueError(
                "data.standardize_before_crop has no effect without data.standardized=true and "
                "data.augmentation.crop_padding or data.crop; leave it out"
            )
        if standardize_before_crop and augmentation is not None and augmentation.changes_range:
            raise ValueError(
                "data.augmentation.brightness and contrast are of bytes, which data.standardize_before_crop has "
                "standardised before; leave one of them out"
            )
        if standardized and augmentation is not None and augmentation.brightness:
            raise ValueError(
                "data.augmentation.brightness has no effect with data.standardized=true, which takes the mean of each "
                "image away; leave it out"
            )
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.standardized = standardized
        self.augmentation = augmentation
        self.resize, self.crop = resize, crop
        self.standardize_before_crop = standardize_before_crop
        self.val_fraction = val_fraction
        self.subset = subset
        self.test_subset = test_subset
        check_weights(class_weights)
        self.class_weights = class_weights
        self.loss_weights: Float[Tensor, "class"] | None = None
        self.splits: dict[SplitName, LabelledImages] = {}
        self.unreadable: dict[SplitName, list[str]] = {}

    def is_here(self) -> bool:
        """Tell whether the set can be loaded without a download."""
        return True

    @property
    def contents(self) -> Contents | None:
        """What one's own files hold; None: they are known, and have checksums."""
        return None

    @abstractmethod
    def load(self, split: StoredSplit) -> LabelledImages:
        """Read a split.

        Raises:
            DataError: a file is missing or damaged.
        """

    def load_held_out(self) -> LabelledImages:
        """Read the validation split of a set that has one of its own.

        Raises:
            DataError: a file is missing or damaged.
        """
        raise NotImplementedError(f"{self.title} has no validation split of its own")

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once, onto the device that trains.

        Where a part of the training set is held out to tune on, "fit" and "validate" leave the test split alone.

        Args:
            stage: "fit", "validate" or "test"; None: all.

        Raises:
            ValueError: `subset`, `test_subset`, `val_fraction` or `class_weights` does not fit the set.
            DataError: see `load`.
        """
        loaded: dict[SplitName, LabelledImages] = {}
        if "train" not in self.splits:
            loaded["train"] = self._load_or_stand_in("train")
            if self.val_fraction:
                loaded["train"], loaded["val"] = self.hold_out(loaded["train"])
            elif self.holds_out:
                loaded["val"] = self.load_held_out()
            if self.subset is not None:
                loaded["train"] = self._part(loaded["train"], "training", "subset", self.subset)
        if "test" not in self.splits and not (self.holds_out and stage in ("fit", "validate")):
            loaded["test"] = self._load_or_stand_in("test")
            if self.test_subset is not None:
                loaded["test"] = self._part(loaded["test"], "test", "test_subset", self.test_subset)
        for name, split in loaded.items():
            self._check_labels(name, split.labels)
        if "train" in loaded and self.class_weights is not None:
            if self.labels_per_image != 1:
                raise ValueError(
                    f"data.class_weights weighs an image by its one class, and those of {self.title} show several; "
                    "leave it out"
                )
            self.loss_weights = class_weights(self.class_weights, loaded["train"].labels, self.names)
        self.splits |= {name: split.to(self.device) for name, split in loaded.items()}

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation split."""
        return self.val_fraction > 0

    def _load_or_stand_in(self, split: StoredSplit) -> LabelledImages:
        return self.load(split)

    def _check_labels(self, split: SplitName, labels: Tensor) -> None:
        wrong = labels[(labels < 0) | (labels >= self.num_classes) | (labels != labels.long())]
        if len(wrong):
            raise DataError(
                f"{self.title}: every label must be a whole number from 0 to {self.num_classes - 1}, the {split} split "
                f"has {wrong[0].item()}; correct its files, or have them downloaded again"
            )

    def hold_out(self, train: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        """Divide the training split into the part to train on and the share `val_fraction` to tune on.

        Raises:
            ValueError: the split is too small for it.
        """
        return self._divide(train, second=self.val_fraction)

    def _part(self, split: LabelledImages, called: str, option: str, size: int) -> LabelledImages:
        available = len(split.labels)
        if size >= available:
            raise ValueError(f"data.{option} must be below the {called} set's {available}, got {size}")
        return self._divide(split, first=size)[0]

    def _divide(self, split: LabelledImages, **sizes: float | int) -> tuple[LabelledImages, LabelledImages]:
        try:
            return split.divide(**sizes)
        except ValueError as error:
            raise ValueError(
                f"data.subset, data.test_subset or data.val_fraction does not fit this data set: {error}"
            ) from error

    @property
    def names(self) -> Sequence[str]:
        """What the classes are called, or their numbers."""
        return self.class_names or list(map(str, range(self.num_classes)))

    def number_of(self, name: str | int) -> int:
        """Find a class by its name, or by its number where no class is called that.

        Raises:
            ValueError: there is no such class.
        """
        if str(name) in self.names:
            return list(self.names).index(str(name))
        if isinstance(name, int) and 0 <= name < self.num_classes:
            return name
        raise ValueError(f"{self.title} has no class {name}; its classes are {', '.join(self.names)}")

    @property
    def is_cut(self) -> bool:
        """Whether a part of the training set or of the test set is left out."""
        return self.subset is not None or self.test_subset is not None or self.val_fraction > 0

    @property
    def in_unit_range(self) -> bool:
        """Whether the network sees images in [0, 1], the range of a decoder's output."""
        return not self.standardized and not (self.augmentation is not None and self.augmentation.changes_range)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network sees.

        Raises:
            ValueError: `crop` is larger than the images, or the contrast of grey images is changed and standardised.
        """
        channels, *size = self.image_shape
        size = size if self.resize is None else [self.resize] * 2
        if self.crop is not None and self.crop > min(size):
            raise ValueError(f"data.crop must be at most {min(size)}, the side of an image, got {self.crop}")
        if channels == 1 and self.standardized and self.augmentation is not None and self.augmentation.contrast:
            raise ValueError(
                f"data.augmentation.contrast has no effect on {self.title}: its images are grey, and "
                "data.standardized=true gives each the same contrast; leave it out"
            )
        return self.preparation.seen

    @property
    def device(self) -> torch.device:
        """Where the images live: with the trainer's model, or on the CPU."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def num_examples(self, split: SplitName) -> int:
        """Count the examples of a split; 0 if there is no such split."""
        return len(self.splits[split].labels) if split in self.splits else 0

    def train_images(
        self, images: Real[Tensor, "batch _ _ _"], draw: Draw
    ) -> Float[Tensor, "batch channel height width"]:
        """Augment stored images and turn them into what the network sees in training."""
        augment, preparation = self.augmentation or Augmentation(), self.preparation
        images = preparation.resized(images)
        if self.standardize_before_crop:
            return augment(preparation.scaled(images), draw, self.crop)
        return preparation.scaled(augment(images, draw, self.crop))

    @property
    def preparation(self) -> Preparation:
        """What is done to stored images in evaluation."""
        return Preparation(self.image_shape, self.standardized, self.resize, self.crop, self.standardize_before_crop)

    def test_images(self, images: Real[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Turn stored images into what the network sees in evaluation."""
        return self.preparation(images)

    def batch(self, split: SplitName, key: BatchKey) -> Batch:
        """Make a batch: a function of (seed, split, epoch, indices)."""
        stored, labels = (part[key.indices] for part in self.splits[split])
        if split == "train" and self.augments:
            images = self.train_images(stored, Draw(self.seed, key.epoch, key.indices))
        else:
            images = self.test_images(stored)
        targets = images if self.in_unit_range else stretch(images)
        return Batch(images, labels, targets.unsqueeze(1))

    def showcase(self, count: int) -> dict[str, Batch]:
        """Choose examples of the watched split to show in pictures: `count` of each kind, by the name of the kind."""
        split = self.watched_split
        chosen = torch.linspace(0, self.num_examples(split) - 1, count, device=self.device).long()
        return {self.title: self.batch(split, BatchKey(0, chosen))}

    def untransformed_images(self) -> LabelledImages:
        """Give test images of single shapes on black, square and not yet transformed, for analyses that transform them.

        Raises:
            ValueError: the set has none.
        """
        raise ValueError(
            f"{self.title} has no single shapes on black that could be rotated, scaled and shifted by known amounts; "
            "affnist, mnist, fashion_mnist and digits have"
        )

    def parts(self, split: SplitName) -> Mapping[str, Bool[Tensor, "example"]]:
        """Name parts of a split that are worth an accuracy of their own: masks over its examples, in order."""
        return {}

    def remarks(self) -> Sequence[str]:
        """Say in lines what `capsbench data check` has found out about a set, besides the sizes of its splits."""
        return ()

    def companions(self) -> Mapping[str, DataLoader[Batch]]:
        """Name further test sets that a trained network is worth testing on."""
        return {}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give shuffled, augmented training batches."""
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give what is evaluated during training: the validation split, or the test split if there is none."""
        return self.evaluation_loader(self.watched_split)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Give the test split in order."""
        return self.evaluation_loader("test")

    predict_dataloader = test_dataloader

    def evaluation_loader(self, split: SplitName) -> DataLoader[Batch]:
        """Give a split in order; training images, where they are augmented, as in the first epoch."""
        return self._loader(split, self.eval_batch_size)

    @property
    def watched_split(self) -> SplitName:
        """The split that `val_dataloader` gives."""
        return "val" if self.holds_out else "test"

    def _loader(self, split: SplitName, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
        if not self.splits:
            raise RuntimeError("call setup() before asking for batches")
        return self.loader_of(partial(self.batch, split), self.num_examples(split), batch_size, shuffle)

    def loader_of(
        self, make_batch: Callable[[BatchKey], Batch], number: int, batch_size: int, shuffle: bool = False
    ) -> DataLoader[Batch]:
        """Give the batches that `make_batch` makes of `number` examples, in order or, for training, shuffled."""
        sampler = EpochSampler(
            number,
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            repeat=self.repeats_an_epoch,
            device=self.device,
            buffer=self.shuffle_buffer,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            done=self._batches_done if shuffle else lambda: 0,
        )
        return DataLoader(BatchDataset(make_batch), sampler=sampler, batch_size=None)

    def _batches_done(self) -> int:
        """Count the batches of this epoch that were already trained on (non-zero after resuming)."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0
