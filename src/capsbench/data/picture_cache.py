"""Decoded pictures in files below the user's cache directory, for folders that do not fit into memory."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL
import platformdirs
from filelock import FileLock

from capsbench.data.decoding import Form, Read
from capsbench.data.files import DataError, at_home, written_atomically
from capsbench.data.on_disk import MappedImages
from capsbench.data.reading import read_json

log = logging.getLogger(__name__)

VERSION = 1
"""Of how pictures are decoded: raised where the same files give other bytes."""


@dataclass(frozen=True)
class PictureCache:
    """Where the decoded pictures of a folder are kept.

    Attributes:
        place: the directory of all caches; None: in the user's own, $XDG_CACHE_HOME or ~/.cache.
        folder: of the pictures.
        digest: of all its files; what was made of others is thrown away.
        how: what else decides which pictures are in a file, and their form.
    """

    place: Path | None
    folder: Path
    digest: str
    how: str

    @property
    def home(self) -> Path:
        """The directory of this folder's pictures in this form."""
        place = platformdirs.user_cache_path("capsbench") if self.place is None else at_home(self.place)
        key = hashlib.sha256(f"{self.folder.absolute()}\0{self.how}".encode("utf-8", "surrogateescape")).hexdigest()
        return place / "pictures" / f"{self.folder.absolute().name}-{key[:12]}"

    def images(
        self, split: str, paths: Sequence[Path], form: Form, decode: Callable[[Read], Iterator[np.ndarray]]
    ) -> tuple[MappedImages, Read]:
        """Give the pictures of a split, decoded before or now. Processes take turns.

        Args:
            split: its name.
            paths: of its files, in order.
            form: of its pictures.
            decode: decodes them in blocks.

        Raises:
            DataError: the disk has not enough space.
            WriteError: the file could not be written.
        """
        shape = (len(paths), *form.shape)
        told = json.dumps([VERSION, PIL.__version__, self.digest, asdict(form), list(map(str, paths))])
        path = self.home / f"{split}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy"
        self.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self.home / f"{split}.lock"):
            try:
                found = MappedImages(path, shape), _load(path)
            except (OSError, ValueError, KeyError, TypeError):
                size = int(np.prod(shape))
                log.info(
                    "%s: pictures take more than half of the free memory; the %s split, %.1f GB, is kept in %s "
                    "(data.cache=DIR: elsewhere)",
                    *(self.folder, split, size / 1e9, path),
                )
                for old in self.home.glob(f"{split}-*"):
                    old.unlink()
                if (free := shutil.disk_usage(self.home).free) < size:
                    raise DataError(
                        f"{self.home} has space for {free / 1e9:.1f} GB, and the {split} split needs {size / 1e9:.1f}; "
                        "data.cache=DIR names another place"
                    ) from None
                _write(path, shape, decode)
                return MappedImages(path, shape), _load(path)
        log.info("%s: the %s split is read from %s", self.folder, split, path)
        return found


def _write(path: Path, shape: tuple[int, ...], decode: Callable[[Read], Iterator[np.ndarray]]) -> None:
    """Write pictures, and before them what is to be known of them: where these are, all is."""
    read = Read()
    with written_atomically(path) as temporary:
        with temporary.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for block in decode(read):
                stream.write(block.data)
        with written_atomically(path.with_suffix(".json")) as beside:
            sizes = [[*size, number] for size, number in read.sizes.items()]
            beside.write_text(json.dumps({"sizes": sizes, "unreadable": list(read.unreadable.items())}))


def _load(path: Path) -> Read:
    known = read_json(path.with_suffix(".json"))
    read = Read(unreadable={int(number): str(error) for number, error in known["unreadable"]})
    read.sizes.update({(int(width), int(height)): int(number) for width, height, number in known["sizes"]})
    return read
