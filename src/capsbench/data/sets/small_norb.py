"""smallNORB: toys seen by two cameras, and tests on viewpoints that training has not shown."""

import hashlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from capsbench.data.errors import DataError
from capsbench.data.files import DataFile, FileSet, written_atomically
from capsbench.data.module import FileDataModule, LabelledImages, SplitName, stand_in_digits
from capsbench.data.randomness import Draw
from capsbench.data.transforms import standardize

log = logging.getLogger(__name__)

SOURCE_SIZE = 96
SIZE = 48
CROP = 32
PLACES = SIZE - CROP + 1
"""Places per direction at which a crop lies within the image."""

CLASSES = range(5)
INFO = {"instance": range(10), "elevation": range(9), "azimuth": range(0, 36, 2), "lighting": range(6)}
"""The columns of the info files and their values; an azimuth is in tens of degrees."""

FAMILIAR = {"novel_azimuth": ("azimuth", (30, 32, 34, 0, 2, 4)), "novel_elevation": ("elevation", (0, 1, 2))}
"""The viewpoints that training shows: a column of info and its values."""

STEMS: dict[SplitName, str] = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}


class MatrixForm(NamedTuple):
    """What one of LeCun's binary matrix files must hold: one element of this shape and type per example."""

    magic: int
    dtype: str
    element: tuple[int, ...]


FORMS = {
    "dat": MatrixForm(0x1E3D4C55, "<u1", (2, SOURCE_SIZE, SOURCE_SIZE)),
    "cat": MatrixForm(0x1E3D4C54, "<i4", ()),
    "info": MatrixForm(0x1E3D4C54, "<i4", (len(INFO),)),
}


class Views(LabelledImages):
    """A split that knows each image's viewpoint, and keeps it through `to` and `take`."""

    info: Int64[Tensor, "example 4"]

    @classmethod
    def of(cls, split: LabelledImages, info: Int64[Tensor, "example 4"]) -> "Views":
        """These images, with (instance, elevation, azimuth, lighting) of each."""
        # An attribute, not a third field: `ImageDataModule.batch` unpacks a split into images and labels.
        views = cls(*split)
        views.info = info
        return views

    def to(self, device: torch.device) -> "Views":
        """The same split on another device."""
        return Views.of(super().to(device), self.info.to(device))

    def take(self, indices: Sequence[int]) -> "Views":
        """The examples at these places."""
        return Views.of(super().take(indices), self.info[torch.as_tensor(indices, device=self.info.device)])


def _files(split: SplitName, *parts: tuple[str, str, str, float]) -> tuple[DataFile, ...]:
    names = {part: f"{STEMS[split]}-{part}.mat" for part in FORMS}
    return tuple(
        DataFile(
            names[part],
            md5,
            (f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/{names[part]}.gz",),
            download_md5,
            megabytes,
        )
        for part, md5, download_md5, megabytes in parts
    )


class SmallNORB(FileDataModule):
    """Five kinds of toys, 24,300 + 24,300 stereo pairs, each camera's image an example (LeCun, Huang and Bottou 2004).

    An image is reduced from 96×96 to 48×48 once, and the result is cached below `data_dir` where that can be written.
    A batch standardises the whole 48×48 image. Training then cuts a 32×32 window out at a random place and changes its
    brightness and contrast; evaluation takes the window in the middle. The paper names both changes without numbers, so
    ours are a choice. They come after standardising, which would undo them; therefore the options `standardized`,
    `crop_padding` and `flip` are refused.

    Args:
        viewpoints: "all", or a test on unseen ones after Hinton, Sabour and Frosst 2018, §5.1: "novel_azimuth" trains
            on 300° to 40° and tests on 60° to 280°; "novel_elevation" trains on the 3 smallest and tests on the others.
        brightness: the offset is uniform in ±brightness, in standard deviations of the 48×48 image.
        contrast: the factor about the window's mean is uniform in 1 ± contrast.
        **options: see `FileDataModule` and `ImageDataModule`.

    Raises:
        ValueError: a value out of its range, or an option that smallNORB does not have.
    """

    image_shape = (1, CROP, CROP)
    num_classes = len(CLASSES)
    title = "smallNORB"
    licence = "research purposes, not for sale"
    origin = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small"
    source: ClassVar[FileSet] = FileSet(
        "small_norb",
        (
            *_files(
                "train",
                ("dat", "8138a0902307b32dfa0025a36dfa45ec", "66054832f9accfe74a0f4c36a75bc0a2", 131.0),
                ("cat", "fd5120d3f770ad57ebe620eb61a0b633", "23c8b86101fbf0904a000b43d3ed2fd9", 0.02),
                ("info", "19faee774120001fc7e17980d6960451", "51dee1210a742582ff607dfd94e332e3", 0.1),
            ),
            *_files(
                "test",
                ("dat", "e9920b7f7b2869a8f1a12e945b2c166c", "e4ad715691ed5a3a5f138751a4ceb071", 131.0),
                ("cat", "fd5120d3f770ad57ebe620eb61a0b633", "5aa791cd7e6016cf957ce9bdb93b8603", 0.02),
                ("info", "7c5b871cc69dcadec1bf6a18141f5edc", "a9454f3864d7fd4bb3ea7fc3eb84924e", 0.1),
            ),
        ),
    )
    file_sets = (source,)

    def __init__(
        self,
        *,
        viewpoints: str = "all",
        brightness: float = 0.25,
        contrast: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name in ("standardized", "crop_padding", "flip"):
            if getattr(self, name):
                raise ValueError(f"data.{name} must be off for smallNORB, got {getattr(self, name)}; see SmallNORB")
        if viewpoints not in ("all", *FAMILIAR):
            raise ValueError(f"data.viewpoints must be one of all, {', '.join(FAMILIAR)}, got {viewpoints}")
        if not 0 <= brightness < math.inf:
            raise ValueError(f"data.brightness must be finite and at least 0, got {brightness}")
        if not 0 <= contrast < 1:
            raise ValueError(f"data.contrast must be at least 0 and below 1, got {contrast}")
        self.viewpoints = viewpoints
        self.brightness = brightness
        self.contrast = contrast
        if viewpoints != "all":
            self.title = f"smallNORB ({viewpoints.replace('_', ' ')})"

    @property
    def in_unit_range(self) -> bool:
        """False: images are always standardised."""
        return False

    @property
    def info(self) -> dict[SplitName, Int64[Tensor, "example 4"]]:
        """(instance, elevation, azimuth, lighting) of each image, in the order of `splits`; empty before `setup`."""
        return {name: split.info for name, split in self.splits.items() if isinstance(split, Views)}

    def is_here(self) -> bool:
        """Whether the files, or the caches made of them, lie somewhere."""
        return super().is_here() or all(self._cache_path(split).is_file() for split in STEMS)

    def fetch(self) -> None:
        """Make sure the files, or the caches made of them, are somewhere; download the files if not."""
        if not self.is_here():
            self.source.fetch(self.data_dir)

    def load(self) -> tuple[Views, Views]:
        """Both splits at 48×48, of the chosen viewpoints; from the caches where these are whole.

        Raises:
            DataError: a file is missing, damaged or not in smallNORB's format.
        """
        train, test = self._load_split("train"), self._load_split("test")
        if self.viewpoints == "all":
            return train, test
        column, values = FAMILIAR[self.viewpoints]
        return _select(train, column, values), _select(test, column, set(INFO[column]) - set(values))

    def hold_out(self, train: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        """Whole toys of each class: two views of one toy are too much alike to tune on one of them."""
        if not isinstance(train, Views):
            raise TypeError(f"smallNORB's splits are Views, got {type(train).__name__}")
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

    def stand_in(self) -> tuple[Views, Views]:
        """A few digits for toys, seen from nowhere in particular."""
        train, test = stand_in_digits((1, SIZE, SIZE), self.num_classes)
        return _without_viewpoint(train), _without_viewpoint(test)

    def _load_split(self, split: SplitName) -> Views:
        path = self._cache_path(split)
        views = _read_cache(path)
        if views is not None:
            return views
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                views = _read_cache(path)  # another process may have made it meanwhile
                if views is None:
                    views = self._make_split(split)
                    _write_cache(path, views)
        except OSError as error:
            log.warning("%s could not be cached (%s); smallNORB is resized again next time", path, error)
        return self._make_split(split) if views is None else views

    def _make_split(self, split: SplitName) -> Views:
        place = self.source.fetch(self.data_dir)
        paths = {part: place / f"{STEMS[split]}-{part}.mat" for part in FORMS}
        parsed = {part: parse_matrix(self.source.read(place, path.name), path, part) for part, path in paths.items()}
        for part in ("cat", "info"):
            if len(parsed[part]) != len(parsed["dat"]):
                raise DataError(
                    f"{paths[part]} must have {len(parsed['dat'])} examples, as {paths['dat'].name} has, "
                    f"has {len(parsed[part])}"
                )
        _check_values(paths["cat"], "category", parsed["cat"], CLASSES)
        for column, (name, values) in enumerate(INFO.items()):
            _check_values(paths["info"], name, parsed["info"][:, column], values)
        labels, info = (
            torch.from_numpy(parsed[part].astype(np.int64)).repeat_interleave(2, dim=0) for part in ("cat", "info")
        )
        return Views.of(LabelledImages(_shrink(parsed["dat"]), labels), info)

    def _cache_path(self, split: SplitName) -> Path:
        """Where the reduced split is kept: another source, or another size, has another name."""
        digests = [self._source_md5(f"{STEMS[split]}-{part}.mat") for part in FORMS]
        digest = hashlib.md5("".join(digests).encode(), usedforsecurity=False).hexdigest()
        return self.data_dir / self.source.folder / f"{split}-{SIZE}x{SIZE}-{digest}.npz"

    def _source_md5(self, name: str) -> str:
        known = next(file for file in self.source.files if file.name == name).md5
        if known is not None:
            return known
        content = self.source.read(self.source.fetch(self.data_dir), name)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    def train_images(
        self, images: UInt8[Tensor, "batch _ _ _"], draw: Draw
    ) -> Float[Tensor, "batch channel height width"]:
        """Standardised, a random 32×32 window, random contrast and brightness."""
        windows = cut(standardize(images), draw.integers("crop row", PLACES), draw.integers("crop column", PLACES))
        factor = draw.uniform("contrast", 1 - self.contrast, 1 + self.contrast)[:, None, None, None]
        offset = draw.uniform("brightness", -self.brightness, self.brightness)[:, None, None, None]
        mean = windows.mean(dim=(1, 2, 3), keepdim=True)
        return torch.lerp(mean, windows, factor) + offset

    def test_images(self, images: UInt8[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Standardised, the 32×32 window in the middle."""
        middle = torch.full((len(images),), (SIZE - CROP) // 2, device=images.device)
        return cut(standardize(images), middle, middle)


def parse_matrix(content: bytes, path: Path, part: str) -> np.ndarray:
    """The examples in the content of a binary matrix file: (example, *element), a view of the content.

    A header of little-endian int32 gives a magic number for the type, the number of dimensions, and the dimensions, of
    which there are at least three: a file with fewer fills them up with 1. Source: the format's description beside
    LeCun, Huang and Bottou's data.

    Args:
        content: of the file, uncompressed.
        path: of the file, for messages.
        part: "dat", "cat" or "info".

    Raises:
        DataError: the type, the dimensions or the length is not what the part must have.
    """
    form = FORMS[part]
    ndim = 1 + len(form.element)
    header_length = 4 * (2 + max(3, ndim))
    if len(content) < header_length:
        raise DataError(f"{path} must begin with a header of {header_length} bytes, has {len(content)} bytes in all")
    magic, found_ndim, *sizes = np.frombuffer(content, "<i4", header_length // 4).tolist()
    if magic != form.magic:
        raise DataError(f"{path} must begin with the magic number {form.magic:#010x}, has {magic & 0xFFFFFFFF:#010x}")
    if found_ndim != ndim:
        raise DataError(f"{path} must have {ndim} dimensions, has {found_ndim}")
    padded = [*form.element, 1, 1][: max(3, ndim) - 1]
    if sizes[0] < 1 or sizes[1:] != padded:
        raise DataError(f"{path} must have dimensions N×{_times(padded)} with N at least 1, has {_times(sizes)}")
    length = np.dtype(form.dtype).itemsize * math.prod(sizes)
    if len(content) - header_length != length:
        raise DataError(
            f"{path} must hold {length} bytes after its header, for {sizes[0]} examples, has "
            f"{len(content) - header_length}"
        )
    return np.frombuffer(content, form.dtype, offset=header_length).reshape(sizes[:ndim])


def cut(
    images: Float[Tensor, "batch 1 height width"], rows: Int64[Tensor, "batch"], columns: Int64[Tensor, "batch"]
) -> Float[Tensor, "batch 1 32 32"]:
    """The 32×32 window of each image whose upper left corner is at (row, column)."""
    along = torch.arange(CROP, device=images.device)
    example = torch.arange(len(images), device=images.device)[:, None, None]
    windows = images[:, 0][example, (rows[:, None] + along)[:, :, None], (columns[:, None] + along)[:, None, :]]
    return windows.unsqueeze(1)


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _check_values(path: Path, name: str, found: np.ndarray, allowed: range) -> None:
    wrong = found[~np.isin(found, allowed)]
    if wrong.size:
        steps = f" in steps of {allowed.step}" if allowed.step > 1 else ""
        raise DataError(f"{path} must have every {name} in {allowed[0]}…{allowed[-1]}{steps}, has {wrong[0]}")


def _shrink(pairs: np.ndarray, chunk: int = 512) -> UInt8[Tensor, "example 1 48 48"]:
    """Both images of each pair, one after the other, antialiased; in chunks, as floats take four times the room."""
    shrunk = torch.empty(2 * len(pairs), 1, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, len(pairs), chunk):
        images = torch.tensor(pairs[start : start + chunk], dtype=torch.float32).view(-1, 1, SOURCE_SIZE, SOURCE_SIZE)
        resized = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        shrunk[2 * start : 2 * start + len(images)] = resized.round().to(torch.uint8)
    return shrunk


def _without_viewpoint(split: LabelledImages) -> Views:
    """Views of five toys of each class."""
    info = torch.zeros(len(split.labels), len(INFO), dtype=torch.int64)
    info[:, 0] = torch.arange(len(info)) % len(CLASSES)
    return Views.of(split, info)


def _select(views: Views, column: str, values: Sequence[int] | set[int]) -> Views:
    found = views.info[:, list(INFO).index(column)]
    return views.take(torch.isin(found, torch.tensor(sorted(values))).nonzero().flatten().tolist())


def _read_cache(path: Path) -> Views | None:
    """What the cache holds, or None where it is missing or damaged; the archive's own checksums tell."""
    if not path.is_file():
        return None
    try:
        with np.load(path) as archive:
            images, labels, info = (torch.from_numpy(archive[name]) for name in ("images", "labels", "info"))
    except Exception as error:  # damage can strike any field of the archive, and each has errors of its own
        log.warning("%s is damaged (%s) and is made anew", path, error)
        return None
    number = len(images)
    shapes_fit = (images.shape, labels.shape, info.shape) == ((number, 1, SIZE, SIZE), (number,), (number, len(INFO)))
    types_fit = (images.dtype, labels.dtype, info.dtype) == (torch.uint8, torch.int64, torch.int64)
    if not (number and shapes_fit and types_fit):
        log.warning("%s does not hold smallNORB at %d×%d and is made anew", path, SIZE, SIZE)
        return None
    return Views.of(LabelledImages(images, labels), info)


def _write_cache(path: Path, views: Views) -> None:
    with written_atomically(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, images=views.images.numpy(), labels=views.labels.numpy(), info=views.info.numpy())
