"""The mechanism of every data set: all images in memory as bytes, batches made whole, order and augmentation computed.

A new data set is a subclass of `ImageDataModule` that says its shape and loads its images, and a YAML file in
`conf/data/`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import lightning
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from capsbench.data.files import FileSet
from capsbench.data.randomness import Draw, permutation
from capsbench.data.transforms import random_crop, random_flip, standardize, stretch, to_unit_range


class LabelledImages(NamedTuple):
    """A whole split in memory."""

    images: UInt8[Tensor, "example channel height width"]
    labels: Int64[Tensor, "example"]

    def to(self, device: torch.device) -> "LabelledImages":
        """The same split on another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def take(self, indices: Sequence[int]) -> "LabelledImages":
        """The examples at these places."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        return LabelledImages(self.images[chosen], self.labels[chosen])


class Batch(NamedTuple):
    """What a model trains on; `targets` are what a decoder should draw for each label, in [0, 1]."""

    images: Float[Tensor, "batch channel height width"]
    labels: Int64[Tensor, "batch *several"]
    targets: Float[Tensor, "batch label channel height width"]


class BatchKey(NamedTuple):
    """Which examples make a batch: all that its content depends on, beside the seed."""

    epoch: int
    indices: Int64[Tensor, "batch"]


class EpochSampler(Sampler[BatchKey]):
    """The batches of an epoch, as a function of (seed, epoch).

    Ranks share each batch: together they see what a single process sees, each example once. One example that is left
    over joins the batch before it: batch norm cannot be trained on a single one.

    Args:
        num_examples: in the split.
        batch_size: over all ranks.
        seed: of the run.
        shuffle: a new order each epoch; else the order of the split.
        device: where the indices are wanted.
        rank, world_size: this process's share.
        done: says, as an epoch begins, how many of its batches have been seen already: those before an interruption.

    Raises:
        ValueError: the last batch has too few examples for the ranks.
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
        done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self.done = done
        self.epoch = 0
        *_, last = self._divide(torch.arange(num_examples))
        if len(last) < world_size:
            raise ValueError(
                f"batches of {batch_size} leave {len(last)} of {num_examples} examples for the last one, too few for "
                f"{world_size} devices; set another data.batch_size, or data.eval_batch_size"
            )

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._divide(torch.empty(self.num_examples)))

    def __iter__(self) -> Iterator[BatchKey]:
        if self.shuffle:
            order = permutation((self.seed, "order", self.epoch), self.num_examples, self.device)
        else:
            order = torch.arange(self.num_examples, device=self.device)
        for indices in self._divide(order)[self.done() :]:
            yield BatchKey(self.epoch, indices[self.rank :: self.world_size])

    def _divide(self, order: Tensor) -> list[Tensor]:
        *batches, last = torch.split(order, self.batch_size)
        if batches and len(last) == 1 < self.batch_size:
            return [*batches[:-1], torch.cat([batches[-1], last])]
        return [*batches, last]


class BatchDataset(Dataset[Batch]):
    """A data set whose items are whole batches."""

    def __init__(self, make_batch: Callable[[BatchKey], Batch]) -> None:
        self.make_batch = make_batch

    def __getitem__(self, key: BatchKey) -> Batch:
        return self.make_batch(key)


SplitName = Literal["train", "val", "test"]
SPLIT_SEED = 0


class ImageDataModule(lightning.LightningDataModule, ABC):
    """Images and labels of one data set, ready for training.

    Args:
        seed: orders the epochs and drives the augmentation.
        batch_size: training examples per step, over all ranks.
        eval_batch_size: examples per step of evaluation.
        standardized: images to mean 0, variance 1 each; else to [0, 1].
        crop_padding: augmentation: pad by so many pixels and crop at random; 0 is off.
        flip: augmentation: mirror half the images.
        val_fraction: the share of the training set held out to tune on, stratified, the same for every seed. With 0,
            as in every table, the curves show the test split, and nothing is chosen by them.
        subset: train on so many examples only, stratified, the same for every seed; the run is then not a full one.

    Raises:
        ValueError: a value out of its range.
        DataError: from `prepare_data` and `setup`, where the data is missing or damaged.
    """

    image_shape: tuple[int, int, int]
    """(channels, height, width) of what the network sees."""
    num_classes: int
    labels_per_image: int = 1
    title: str
    """What the set is called in tables."""
    stands_in_for: str | None = None
    """The title of another set, in whose place these images are used where that cannot be had."""
    is_stand_in: bool = False
    """Whether these are but a few digits in the place of a set that is not here."""
    file_sets: ClassVar[tuple[FileSet, ...]] = ()
    """The files it is read from."""
    licence: ClassVar[str] = "yours"
    origin: ClassVar[str] = "–"

    def __init__(
        self,
        *,
        seed: int = 0,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        standardized: bool = False,
        crop_padding: int = 0,
        flip: bool = False,
        val_fraction: float = 0.0,
        subset: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("crop_padding", crop_padding, 0),
            ("subset", 1 if subset is None else subset, 1),
        ):
            if value < least:
                raise ValueError(f"data.{name} must be at least {least}, got {value}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction must be at least 0 and below 1, got {val_fraction}")
        self.seed = seed
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.standardized = standardized
        self.crop_padding = crop_padding
        self.flip = flip
        self.val_fraction = val_fraction
        self.subset = subset
        self.splits: dict[SplitName, LabelledImages] = {}

    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return True

    @abstractmethod
    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training and the test split.

        Raises:
            DataError: they cannot be had.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once, onto the device that trains."""
        if self.splits:
            return
        train, test = self._load_or_stand_in()
        splits: dict[SplitName, LabelledImages] = {"train": train, "test": test}
        if self.val_fraction:
            rest, held_out = self.hold_out(train)
            splits |= {"train": rest, "val": held_out}
        if self.subset is not None:
            if self.subset > len(splits["train"].labels):
                raise ValueError(
                    f"data.subset must be at most the training set's {len(splits['train'].labels)}, got {self.subset}"
                )
            if self.subset < len(splits["train"].labels):
                splits["train"], _ = self._divide(splits["train"], train_size=self.subset)
        self.splits = {name: split.to(self.device) for name, split in splits.items()}

    def _load_or_stand_in(self) -> tuple[LabelledImages, LabelledImages]:
        return self.load()

    def hold_out(self, train: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        """The training split without the share `val_fraction`, and that share.

        Raises:
            ValueError: the split is too small for it.
        """
        return self._divide(train, test_size=self.val_fraction)

    def _divide(self, split: LabelledImages, **sizes: float | int) -> tuple[LabelledImages, LabelledImages]:
        labels = split.labels.tolist()
        try:
            first, second = train_test_split(range(len(labels)), stratify=labels, random_state=SPLIT_SEED, **sizes)
        except ValueError as error:
            raise ValueError(f"data.subset or data.val_fraction does not fit this data set: {error}") from error
        return split.take(first), split.take(second)

    @property
    def is_cut(self) -> bool:
        """Whether training leaves examples out."""
        return self.subset is not None or self.val_fraction > 0

    @property
    def in_unit_range(self) -> bool:
        """Whether the network sees images in [0, 1], which a decoder can draw as they are."""
        return not self.standardized

    @property
    def device(self) -> torch.device:
        """Where the images live: with the trainer's model, or on the CPU."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def num_examples(self, split: SplitName) -> int:
        """Examples in a split, or 0 if there is none of the name."""
        return len(self.splits[split].labels) if split in self.splits else 0

    def train_images(
        self, images: UInt8[Tensor, "batch _ _ _"], draw: Draw
    ) -> Float[Tensor, "batch channel height width"]:
        """Bytes to what the network sees in training, augmented."""
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, draw)
        if self.flip:
            images = random_flip(images, draw)
        return self.test_images(images)

    def test_images(self, images: UInt8[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Bytes to what the network sees in evaluation."""
        return standardize(images) if self.standardized else to_unit_range(images)

    def batch(self, split: SplitName, key: BatchKey) -> Batch:
        """The batch of these examples in this epoch: a function of (seed, split, epoch, indices)."""
        stored, labels = (part[key.indices] for part in self.splits[split])
        if split == "train":
            images = self.train_images(stored, Draw(self.seed, key.epoch, key.indices))
        else:
            images = self.test_images(stored)
        targets = images if self.in_unit_range else stretch(images)
        return Batch(images, labels, targets.unsqueeze(1))

    def showcase(self, count: int) -> dict[str, Batch]:
        """Examples to show, `count` of each kind, under the name of the kind."""
        chosen = torch.linspace(0, self.num_examples("test") - 1, count, device=self.device).long()
        return {self.title: self.batch("test", BatchKey(0, chosen))}

    def untransformed_images(self) -> LabelledImages:
        """Test images of single shapes on black, square and as they were drawn, to be transformed by known amounts.

        Raises:
            ValueError: the set has none.
        """
        raise ValueError(
            f"{self.title} has no single shapes on black that could be rotated, scaled and shifted by known amounts; "
            "affnist, mnist, fashion_mnist and digits have"
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented training batches."""
        return self._loader("train", self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """What is evaluated during training: the validation split, or without one the test split, for the curves."""
        return self._loader(self.watched_split, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split in order."""
        return self._loader("test", self.eval_batch_size)

    def _batches_done(self) -> int:
        """Of the epoch that is being trained: more than none where it is resumed in its middle."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0

    @property
    def watched_split(self) -> SplitName:
        """The split that `val_dataloader` gives."""
        return "val" if self.val_fraction else "test"

    def _loader(self, split: SplitName, batch_size: int) -> DataLoader[Batch]:
        if not self.splits:
            raise RuntimeError("call setup() before asking for batches")
        sampler = EpochSampler(
            self.num_examples(split),
            batch_size,
            seed=self.seed,
            shuffle=split == "train",
            device=self.device,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            done=self._batches_done if split == "train" else lambda: 0,
        )
        return DataLoader(BatchDataset(partial(self.batch, split)), sampler=sampler, batch_size=None)


class FileDataModule(ImageDataModule):
    """A data set that is read from files below `data_dir`.

    Args:
        data_dir: where data sets are kept.
        absent: what to do where the files are not there: "fetch" them, or use a "stand_in": a few digits of the form
            of the set's images, for trying things out. It is named so, and its runs enter no table.
        **options: see `ImageDataModule`.

    Raises:
        ValueError: absent is neither of the two.
    """

    source: ClassVar[FileSet]

    def __init__(self, *, data_dir: str | os.PathLike[str] = "data", absent: str = "fetch", **options: Any) -> None:
        super().__init__(**options)
        if absent not in ("fetch", "stand_in"):
            raise ValueError(f"data.absent must be fetch or stand_in, got {absent}")
        self.data_dir = Path(data_dir)
        self.is_stand_in = absent == "stand_in" and not self.is_here()
        if self.is_stand_in:
            self.title, self.stands_in_for = f"{self.title} (stand-in)", self.title

    def is_here(self) -> bool:
        """Whether every file lies somewhere."""
        return all(files.find(self.data_dir) is not None for files in self.file_sets)

    def prepare_data(self) -> None:
        """Make sure the files are somewhere; download them if not. Nothing for a stand-in."""
        if not self.is_stand_in:
            self.fetch()

    def fetch(self) -> None:
        """Make sure the files are somewhere; download them if not.

        Raises:
            DataError: they cannot be had.
        """
        self.source.fetch(self.data_dir)

    def stand_in(self) -> tuple[LabelledImages, LabelledImages]:
        """Splits in the place of those that `load` reads."""
        return stand_in_digits(self.image_shape, self.num_classes)

    def _load_or_stand_in(self) -> tuple[LabelledImages, LabelledImages]:
        return self.stand_in() if self.is_stand_in else self.load()


def stand_in_digits(shape: tuple[int, int, int], num_classes: int) -> tuple[LabelledImages, LabelledImages]:
    """512 and 256 of scikit-learn's digits, enlarged to (channels, height, width), in so many classes."""
    channels, *size = shape
    digits = enlarged_digits(size)
    whole = LabelledImages(digits.images.repeat(1, channels, 1, 1), digits.labels % num_classes)
    return whole.take(range(512)), whole.take(range(512, 768))


def enlarged_digits(size: Sequence[int]) -> LabelledImages:
    """scikit-learn's 1,797 digits of 8×8, enlarged (bilinear) to (height, width), 0…16 scaled to bytes."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
    images = F.interpolate(small, size=tuple(size), mode="bilinear").round().to(torch.uint8)
    return LabelledImages(images, torch.from_numpy(labels).long())
