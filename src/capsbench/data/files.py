"""Files of data sets: where they may be, what their content must be, and how to download them."""

import contextlib
import gzip
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

LOCK = ".lock"
LARGEST_RATIO = 10
"""How many times larger than its download a file may be: no data set is compressed as much."""


class DataError(RuntimeError):
    """Data is missing, unreadable or not what it should be; the message says what to do."""


class WriteError(OSError):
    """A file could not be written, for want of space or permission; it is as it was before."""

    def __str__(self) -> str:
        return f"{self.filename} could not be written: {self.strerror}"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: on disk, uncompressed; NAME.gz is accepted too.
        md5: of the uncompressed content, so that copies compressed by others are accepted; None if nobody has published
            it: the reader then checks the form of the file.
        urls: addresses to download it from, tried in this order.
        download_md5: of the download, before it is unpacked.
        download_mb: size of the download in MB; content of more than ten times as much is refused.
        parts: files that hold the same together, and are accepted in its place.
    """

    name: str
    md5: str | None
    urls: tuple[str, ...]
    download_md5: str | None
    download_mb: float
    parts: tuple[str, ...] = ()

    @property
    def most_bytes(self) -> int:
        """What its content may have at most: more is another file, or one made to fill memory."""
        return int(LARGEST_RATIO * self.download_mb * 10**6)


@dataclass(frozen=True)
class FileSet:
    """The files of one data set.

    Attributes:
        folder: where they are kept, below `data_dir`.
        files: all of them.
        elsewhere: other folders to look in, below `data_dir` or absolute: those of other tools or system packages.
    """

    folder: str
    files: tuple[DataFile, ...]
    elsewhere: tuple[str, ...] = ()

    def find(self, data_dir: Path) -> Path | None:
        """Find the first folder that has every file; None if there is none."""
        return next((place for place in self._places(data_dir) if not self._missing(place)), None)

    def fetch(self, data_dir: Path) -> Path:
        """Find the folder that has every file, and download missing files first.

        Downloads are atomic and checksummed; two processes take turns.

        Raises:
            DataError: no network, no space, or an address gave something else.
        """
        place = self.find(data_dir)
        if place is not None:
            return place
        folder = data_dir / self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / LOCK):
                for name in self._missing(folder):
                    _download(next(file for file in self.files if file.name == name), folder)
        except OSError as error:
            looked = "; ".join(f"{p} lacks {', '.join(self._missing(p))}" for p in self._places(data_dir))
            reason = " ".join(str(error).split())
            with contextlib.suppress(OSError):  # remove the folder if it is empty
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
            raise DataError(
                f"{self.folder} is not here and could not be downloaded: {reason}. Looked in: {looked}. "
                f"Put the files into {folder}, or set data_dir or CAPSBENCH_DATA to where they are"
            ) from error
        return folder

    def check(self, place: Path, name: str) -> Path:
        """Verify the checksum of a file that another library is going to open, and give its path.

        Raises:
            DataError: the file is missing or damaged.
        """
        file = next(file for file in self.files if file.name == name)
        path = place / name
        if not path.is_file():
            raise DataError(f"{path} is missing; capsbench data fetch gets it")
        with path.open("rb") as stream:
            _compare(path, file.md5, hashlib.file_digest(stream, _md5).hexdigest())
        return path

    def read(self, place: Path, name: str) -> bytes:
        """Read a file, uncompress it and verify its checksum.

        Raises:
            DataError: the file is missing, damaged or far too large.
        """
        file = next(file for file in self.files if file.name == name)
        path = _on_disk(place, name)
        if path is None:
            raise DataError(f"{place / name} is missing; capsbench data fetch gets it")
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                content = stream.read(file.most_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be read ({error}); delete it to have it downloaded again") from error
        check_size(path, len(content), file.most_bytes)
        _compare(path, file.md5, _md5(content).hexdigest())
        return content

    def _places(self, data_dir: Path) -> list[Path]:
        return [data_dir / self.folder, *(data_dir / other for other in self.elsewhere)]

    def _missing(self, place: Path) -> list[str]:
        return [file.name for file in self.files if not _is_complete(place, file)]


_md5 = partial(hashlib.md5, usedforsecurity=False)


def check_size(path: Path, found: int, most: int) -> None:
    """Refuse a file whose content is larger than that of a data set can be.

    Args:
        path: of the file, perhaps compressed.
        found: bytes of its content, or of as much as was read.
        most: bytes that it may have.

    Raises:
        DataError: it has more.
    """
    if found > most:
        raise DataError(
            f"{path} holds more than {most:,} bytes, which the data set's file does not; delete it to have it "
            "downloaded again"
        )


def _compare(path: Path, expected: str | None, found: str) -> None:
    if expected not in (None, found):
        raise DataError(
            f"{path} is damaged or another file: its content must have MD5 {expected}, has {found}; "
            "delete it to have it downloaded again"
        )


def _is_complete(place: Path, file: DataFile) -> bool:
    in_parts = bool(file.parts) and all((place / part).is_file() for part in file.parts)
    return in_parts or _on_disk(place, file.name) is not None


def _on_disk(place: Path, name: str) -> Path | None:
    return next((path for path in (place / f"{name}.gz", place / name) if path.is_file()), None)


def _download(file: DataFile, folder: Path) -> None:
    """Download a file from the first address that works; pooch verifies it and then moves it into place."""
    import pooch  # takes long to import, and is needed for downloads alone

    failures = []
    for url in file.urls:
        suffix = Path(url).suffix if url.endswith((".gz", ".zip")) and not file.name.endswith(".gz") else ""
        known_hash = f"md5:{file.download_md5}" if file.download_md5 else None
        try:
            path = pooch.retrieve(url, known_hash, fname=file.name + suffix, path=folder, progressbar=True)
            if suffix == ".zip":
                _unzip(Path(path), file)
            return
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:  # no connection, or another content
            failures.append(f"{url}: {error}")
    raise OSError("; ".join(failures))


def _unzip(archive: Path, file: DataFile) -> None:
    """Extract a file from an archive into the archive's folder, and remove the archive."""
    try:
        with zipfile.ZipFile(archive) as members:
            check_size(archive, members.getinfo(file.name).file_size, file.most_bytes)
            with (
                members.open(file.name) as member,
                written_atomically(archive.parent / file.name) as temporary,
                temporary.open("wb") as stream,
            ):
                shutil.copyfileobj(member, stream)
    finally:
        archive.unlink()


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path in which ~ is the home folder, and a ~ that is nobody's is a name."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file to write; at the end of the block it replaces `path`, or a link in its place.

    If the process is killed meanwhile, `path` keeps its old content, and the next write removes the temporary file.
    Only one process at a time may write.

    Args:
        path: of the file; its folder exists.

    Raises:
        WriteError: the folder is missing, full or not writable.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # a link in its place is not followed
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        is_of_another = error.filename not in (None, str(temporary))  # such as one that the block reads
        if is_of_another or error.errno is None:
            raise
        raise WriteError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
