"""smallNORB: toys seen by two cameras, and tests on viewpoints that are not in the training set."""

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from jaxtyping import Float, Int64, Real
from torch import Tensor

from capsbench.data import sources
from capsbench.data.batch import Described, LabelledImages, SplitName, StoredSplit
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import check_size, written_atomically
from capsbench.data.foreign import unpacked_bytes
from capsbench.data.preparation import Preparation
from capsbench.data.randomness import Draw
from capsbench.data.sets.norb_files import CLASSES, FORMS, INFO, SOURCE_SIZE, file_name, read_pairs
from capsbench.data.stand_ins import stand_in_digits
from capsbench.data.transforms import cut

log = logging.getLogger(__name__)

SIZE = 48
CROP = 32
PLACES = SIZE - CROP + 1
"""Places per direction where a crop fits into the image."""

MOST_BYTES = 2 * 24_300 * (2 * SIZE**2 + 8 * (1 + len(INFO))) + 2**12
"""Of a split's cache: images in 16 bits, labels and viewpoints, and headers."""
TYPES = {"antialias": torch.uint8, "mean": torch.float16}
"""How images are stored by each filter that reduces them. A mean of four bytes is exact in 16 bits."""
FAMILIAR = {"novel_azimuth": ("azimuth", (30, 32, 34, 0, 2, 4)), "novel_elevation": ("elevation", (0, 1, 2))}
"""The viewpoints in the training set of each test on novel ones: a column of info and its values."""


class SmallNORB(FileDataModule):
    """Five kinds of toys, 24,300 + 24,300 stereo pairs, each camera's image an example (LeCun, Huang and Bottou 2004).

    Images are reduced from 96×96 to 48×48 once, and cached below `data_dir` if that is writable. A batch standardises
    the 48×48 images, or scales them to [0, 1]. Training then cuts a 32×32 window out at a random place and changes its
    brightness and contrast; evaluation takes the window in the middle. The paper does not name these changes. The
    authors' code neither standardises nor changes the brightness, and changes the contrast by up to 0.5.

    Args:
        cameras: "separate" makes each camera's image an example; "pair" those of a pair one of two channels, which are
            cropped and changed alike, as in Hinton, Sabour and Frosst's code.
        viewpoints: "all", or a test on novel ones after Hinton, Sabour and Frosst 2018, §5.1: "novel_azimuth" trains
            on 300° to 40° and tests on 60° to 280°; "novel_elevation" trains on the 3 smallest and tests on the others.
        brightness: the offset is uniform in ±brightness, on the scale of what the network sees.
        contrast: the factor about the mean of each camera's window is uniform in 1 ± contrast.
        resize_filter: "antialias" reduces images with a triangle over 4×4 pixels and rounds to bytes; "mean" takes the
            mean of 2×2 pixels without rounding, as the authors' code does.
        standardized: give each 48×48 image mean 0 and variance 1; otherwise scale it to [0, 1].
        **options: see `FileDataModule` and `ImageDataModule`, but augmentation.

    Raises:
        ValueError: a value out of its range, or an option that smallNORB does not have.
    """

    image_shape = (1, CROP, CROP)
    num_classes = len(CLASSES)
    class_names = ("animal", "human", "airplane", "truck", "car")
    title = "smallNORB"
    source = sources.SMALL_NORB
    refused = {
        "augmentation": "its own is set by data.brightness and data.contrast",
        "resize": "its images are reduced to 48×48",
        "crop": "its windows are 32×32",
    }

    def __init__(
        self,
        *,
        cameras: str = "separate",
        viewpoints: str = "all",
        brightness: float = 0.25,
        contrast: float = 0.5,
        resize_filter: str = "antialias",
        standardized: bool = True,
        **options: Any,
    ) -> None:
        if resize_filter not in TYPES:
            raise ValueError(f"data.resize_filter must be {' or '.join(TYPES)}, got {resize_filter}")
        if cameras not in ("separate", "pair"):
            raise ValueError(f"data.cameras must be separate or pair, got {cameras}")
        self.cameras = 2 if cameras == "pair" else 1
        self.image_shape = (self.cameras, CROP, CROP)
        self.resize_filter = resize_filter  # names the caches, which the next line looks for
        super().__init__(standardized=standardized, **options)
        if viewpoints not in ("all", *FAMILIAR):
            raise ValueError(f"data.viewpoints must be one of all, {', '.join(FAMILIAR)}, got {viewpoints}")
        if self.is_stand_in and viewpoints != "all":
            raise ValueError(f"data.viewpoints={viewpoints} has no effect with {self.title}; leave it out")
        if not 0 <= brightness < math.inf:
            raise ValueError(f"data.brightness must be finite and at least 0, got {brightness}")
        if not 0 <= contrast < 1:
            raise ValueError(f"data.contrast must be at least 0 and below 1, got {contrast}")
        self.viewpoints = viewpoints
        self.brightness = brightness
        self.contrast = contrast
        told = ["pairs"] if cameras == "pair" else []
        told += [viewpoints.replace("_", " ")] if viewpoints != "all" else []
        if told and not self.is_stand_in:
            self.title = f"smallNORB ({', '.join(told)})"

    @property
    def in_unit_range(self) -> bool:
        """Whether the network sees images in [0, 1], which a change of brightness or contrast may leave."""
        return super().in_unit_range and not (self.brightness or self.contrast)

    @property
    def info(self) -> dict[SplitName, Int64[Tensor, "example 4"]]:
        """(instance, elevation, azimuth, lighting) of each image of each split; empty before `setup`."""
        return {name: split.info for name, split in self.splits.items() if isinstance(split, Described)}

    def is_here(self) -> bool:
        """Tell whether the files or the caches made of them can be found."""
        return super().is_here() or all(self._cache_path(split).is_file() for split in ("train", "test"))

    def fetch(self) -> None:
        """Download the files, unless they or the caches made of them are here."""
        if not self.is_here():
            self.source.fetch(self.data_dir)

    def load(self, split: StoredSplit) -> Described:
        """Read a split at 48×48, with the chosen viewpoints, from its cache if that is not damaged.

        Raises:
            DataError: a file is missing, damaged or not in smallNORB's format.
        """
        views = self._paired(self._load_split(split))
        if self.viewpoints == "all":
            return views
        column, familiar = FAMILIAR[self.viewpoints]
        return _select(views, column, familiar if split == "train" else set(INFO[column]) - set(familiar))

    def _paired(self, views: Described) -> Described:
        """Make the images of both cameras, which follow one another, the channels of one image, if asked to."""
        images = views.images.view(-1, self.cameras, *views.images.shape[2:])
        return Described.of(LabelledImages(images, views.labels[:: self.cameras]), views.info[:: self.cameras])

    def hold_out(self, train: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        """Hold out all images of some toys of each class: views of one toy are too similar to train and tune on.

        Raises:
            ValueError: `val_fraction` rounds to no toy or to all of them.
        """
        if not isinstance(train, Described):
            raise TypeError(f"smallNORB's splits must be Described, got {type(train).__name__}")
        toys = train.info[:, 0]
        instances = sorted(set(toys.tolist()))
        held_out = round(self.val_fraction * len(instances))
        if not 0 < held_out < len(instances):
            raise ValueError(
                f"data.val_fraction must be 1 to {len(instances) - 1} of the {len(instances)} toys of each class, "
                f"got {self.val_fraction}; {1 / len(instances):g} is one"
            )
        chosen = torch.isin(toys, torch.tensor(instances[-held_out:]))
        return train.take((~chosen).nonzero().flatten().tolist()), train.take(chosen.nonzero().flatten().tolist())

    def stand_in(self, split: StoredSplit) -> Described:
        """Make a few digits that replace toys; they have no viewpoint."""
        if self.resize_filter == "antialias":
            return _without_viewpoint(stand_in_digits(split, (self.cameras, SIZE, SIZE), self.num_classes))
        large = stand_in_digits(split, (self.cameras, SOURCE_SIZE, SOURCE_SIZE), self.num_classes)
        return _without_viewpoint(LabelledImages(_mean(large.images), large.labels))

    def _load_split(self, split: SplitName) -> Described:
        path = self._cache_path(split)
        views = _read_cache(path, TYPES[self.resize_filter])
        if views is not None:
            return views
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                views = _read_cache(path, TYPES[self.resize_filter])  # another process may have made it meanwhile
                if views is None:
                    views = self._make_split(split)
                    _write_cache(path, views)
        except OSError as error:
            log.warning("%s could not be written (%s); smallNORB is resized again next time", path, error)
        return self._make_split(split) if views is None else views

    def _make_split(self, split: SplitName) -> Described:
        pairs = read_pairs(self.source, self.data_dir, split)
        labels, info = (
            torch.from_numpy(part.astype(np.int64)).repeat_interleave(2, dim=0) for part in (pairs.cat, pairs.info)
        )
        return Described.of(LabelledImages(_shrink(pairs.dat, self.resize_filter), labels), info)

    def _cache_path(self, split: SplitName) -> Path:
        """Name the cache of a split after the size of its images, their filter and the checksums of its files."""
        digests = [self._source_md5(file_name(split, part)) for part in FORMS]
        return self.data_dir / self.source.folder / sources.norb_cache(digests, split, SIZE, self.resize_filter)

    def _source_md5(self, name: str) -> str:
        known = next(file for file in self.source.files if file.name == name).md5
        if known is not None:
            return known
        content = self.source.read(self.source.fetch(self.data_dir), name)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    def train_images(
        self, images: Real[Tensor, "batch _ _ _"], draw: Draw
    ) -> Float[Tensor, "batch channel height width"]:
        """Scale, cut a random 32×32 window out, and change its contrast and brightness at random."""
        rows, columns = draw.integers("crop row", PLACES), draw.integers("crop column", PLACES)
        windows = cut(self.preparation.scaled(images), rows, columns, CROP, CROP)
        factor = draw.uniform("contrast", 1 - self.contrast, 1 + self.contrast)[:, None, None, None]
        offset = draw.uniform("brightness", -self.brightness, self.brightness)[:, None, None, None]
        mean = windows.flatten(0, 1).mean(dim=(1, 2), keepdim=True).view(len(windows), self.cameras, 1, 1)
        return torch.lerp(mean, windows, factor) + offset

    @property
    def preparation(self) -> Preparation:
        """Scale and cut the 32×32 window in the middle out."""
        return Preparation((self.cameras, SIZE, SIZE), self.standardized, crop=CROP, standardize_before_crop=True)


def _shrink(pairs: np.ndarray, resize_filter: str, chunk: int = 512) -> Real[Tensor, "example 1 48 48"]:
    """Reduce both images of each pair; in chunks, as floats take four times the memory of bytes."""
    reduce = _antialiased if resize_filter == "antialias" else _mean
    shrunk = torch.empty(2 * len(pairs), 1, SIZE, SIZE, dtype=TYPES[resize_filter])
    for start in range(0, len(pairs), chunk):
        images = torch.tensor(pairs[start : start + chunk]).view(-1, 1, SOURCE_SIZE, SOURCE_SIZE)
        shrunk[2 * start : 2 * start + len(images)] = reduce(images)
    return shrunk


def _antialiased(images: Tensor) -> Tensor:
    return F.interpolate(images.float(), size=(SIZE, SIZE), mode="bilinear", antialias=True).round().to(torch.uint8)


def _mean(images: Tensor) -> Tensor:
    """Take the mean of 2×2 pixels: what TensorFlow's bilinear resize without antialias gives at half the size."""
    return F.avg_pool2d(images.float(), 2).half()


def _without_viewpoint(split: LabelledImages) -> Described:
    """Make views of five toys of each class."""
    info = torch.zeros(len(split.labels), len(INFO), dtype=torch.int64)
    info[:, 0] = torch.arange(len(info)) % len(CLASSES)
    return Described.of(split, info)


def _select(views: Described, column: str, values: Sequence[int] | set[int]) -> Described:
    found = views.info[:, list(INFO).index(column)]
    return views.take(torch.isin(found, torch.tensor(sorted(values))).nonzero().flatten().tolist())


def _read_cache(path: Path, image_type: torch.dtype) -> Described | None:
    """Read a cache; None if it is missing or damaged, which the archive's checksums tell."""
    if not path.is_file():
        return None
    try:
        check_size(path, unpacked_bytes(path), MOST_BYTES)
        with np.load(path, allow_pickle=False) as archive:
            images, labels, info = (torch.from_numpy(archive[name]) for name in ("images", "labels", "info"))
    except Exception as error:  # each field of an archive has errors of its own
        log.warning("%s is damaged (%s) and is made again", path, error)
        return None
    number = len(images)
    shapes_fit = (images.shape, labels.shape, info.shape) == ((number, 1, SIZE, SIZE), (number,), (number, len(INFO)))
    types_fit = (images.dtype, labels.dtype, info.dtype) == (image_type, torch.int64, torch.int64)
    values_fit = number and shapes_fit and types_fit and _values_fit(labels, info)
    if not values_fit:
        log.warning("%s does not hold smallNORB at %d×%d and is made again", path, SIZE, SIZE)
        return None
    return Described.of(LabelledImages(images, labels), info)


def _values_fit(labels: Tensor, info: Tensor) -> bool:
    columns = zip((labels, *info.T), (CLASSES, *INFO.values()), strict=True)
    return all(torch.isin(column, torch.tensor(allowed)).all() for column, allowed in columns)


def _write_cache(path: Path, views: Described) -> None:
    with written_atomically(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, images=views.images.numpy(), labels=views.labels.numpy(), info=views.info.numpy())
