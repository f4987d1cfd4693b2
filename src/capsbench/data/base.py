"""The mechanism of every data set: all images in memory as bytes, batches made whole, order and augmentation computed.

A new data set is a subclass of `ImageDataModule` that says its shape and loads its images, and a YAML file in
`conf/data/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

import lightning
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from capsbench.data.randomness import Draw, permutation
from capsbench.data.transforms import random_crop, random_flip, standardize, to_unit_range


class DataError(RuntimeError):
    """Data that is missing, unreadable or not what it should be; the message says what to do."""


class LabelledImages(NamedTuple):
    """A whole split in memory."""

    images: UInt8[Tensor, "example channel height width"]
    labels: Int64[Tensor, "example"]

    def to(self, device: torch.device) -> "LabelledImages":
        """The same split on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


class Batch(NamedTuple):
    """What a model trains on."""

    images: Float[Tensor, "batch channel height width"]
    labels: Int64[Tensor, "batch"]


class Where(NamedTuple):
    """Which examples make a batch: all that its content depends on, beside the seed."""

    epoch: int
    indices: Int64[Tensor, "batch"]


class EpochSampler(Sampler[Where]):
    """The batches of an epoch, as a function of (seed, epoch).

    Ranks share each batch: together they see what a single process sees, each example once.

    Args:
        num_examples: in the split.
        batch_size: over all ranks.
        seed: of the run.
        shuffle: a new order each epoch; else the order of the split.
        device: where the indices are wanted.
        rank, world_size: this process's share.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[Where]:
        if self.shuffle:
            order = permutation((self.seed, "order", self.epoch), self.num_examples, self.device)
        else:
            order = torch.arange(self.num_examples, device=self.device)
        for indices in torch.split(order, self.batch_size):
            yield Where(self.epoch, indices[self.rank :: self.world_size])


class BatchDataset(Dataset[Batch]):
    """A data set whose items are whole batches."""

    def __init__(self, make_batch: Callable[[Where], Batch]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, where: Where) -> Batch:
        return self.make_batch(where)


class ImageDataModule(lightning.LightningDataModule, ABC):
    """Images and labels of one data set, ready for training.

    Args:
        seed: orders the epochs and drives the augmentation.
        batch_size: training examples per step, over all ranks.
        eval_batch_size: examples per step of evaluation.
        standardized: images to mean 0, variance 1 each; else to [0, 1].
        crop_padding: augmentation: pad by so many pixels and crop at random; 0 is off.
        flip: augmentation: mirror half the images.

    Raises:
        ValueError: a size below 1 or a padding below 0.
        DataError: from `prepare_data` and `setup`, where the data is missing or damaged.
    """

    image_shape: ClassVar[tuple[int, int, int]]
    """(channels, height, width)"""
    num_classes: ClassVar[int]

    def __init__(
        self,
        *,
        seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        standardized: bool = False,
        crop_padding: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("crop_padding", crop_padding, 0),
        ):
            if value < least:
                raise ValueError(f"data.{name} must be at least {least}, got {value}")
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.standardized = standardized
        self.crop_padding = crop_padding
        self.flip = flip
        self.train_split: LabelledImages | None = None
        self.test_split: LabelledImages | None = None

    @abstractmethod
    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training and the test split.

        Raises:
            DataError: they cannot be had.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load both splits, once, onto the device that trains."""
        if self.train_split is None:
            train, test = self.load()
            self.train_split, self.test_split = train.to(self.device), test.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the images live: with the trainer's model, or on the CPU."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def prepare_images(
        self, images: UInt8[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Bytes to what the network sees."""
        return standardize(images) if self.standardized else to_unit_range(images)

    def augment(
        self, images: UInt8[Tensor, "batch channel height width"], draw: Draw
    ) -> UInt8[Tensor, "batch channel height width"]:
        """Change training images at random."""
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, draw)
        if self.flip:
            images = random_flip(images, draw)
        return images

    def train_batch(self, where: Where) -> Batch:
        """The training batch of these examples in this epoch."""
        assert self.train_split is not None, "call setup() first"
        images = self.train_split.images[where.indices]
        draw = Draw(self.seed, where.epoch, where.indices)
        return Batch(self.prepare_images(self.augment(images, draw)), self.train_split.labels[where.indices])

    def test_batch(self, where: Where) -> Batch:
        """These examples of the test split."""
        assert self.test_split is not None, "call setup() first"
        return Batch(self.prepare_images(self.test_split.images[where.indices]), self.test_split.labels[where.indices])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented training batches."""
        assert self.train_split is not None, "call setup() first"
        return self._loader(self.train_batch, len(self.train_split.labels), self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split in order."""
        assert self.test_split is not None, "call setup() first"
        return self._loader(self.test_batch, len(self.test_split.labels), self.eval_batch_size, shuffle=False)

    def val_dataloader(self) -> DataLoader[Batch]:
        """What is evaluated after each epoch: the test split, for the curves only. Nothing is chosen by it."""
        return self.test_dataloader()

    def _loader(
        self, make_batch: Callable[[Where], Batch], num_examples: int, batch_size: int, *, shuffle: bool
    ) -> DataLoader[Batch]:
        sampler = EpochSampler(
            num_examples,
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            device=self.device,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        return DataLoader(BatchDataset(make_batch), sampler=sampler, batch_size=None)
