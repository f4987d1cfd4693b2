"""A digest of one's own files: what a run was trained on, and what has changed since.

What files hold is kept below the user's cache directory, by size and time of change, so that nothing is read twice.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock
from pydantic import TypeAdapter
from pydantic_core import to_json

from capsbench.data.files import DataError, WriteError, written_atomically
from capsbench.data.foreign import read_bytes

LARGEST = 2**30
"""Bytes of a list of files that is read."""
AT_ONCE = 64
"""Files that a thread reads one after the other."""
SETTLED_NS = 2 * 10**9
"""A file that was changed so shortly before it was read may change once more at the same time of its clock."""

Known = dict[str, tuple[int, int, str]]
"""Of each file: its size, when it was changed, in nanoseconds since 1970, and a digest of its content."""


@dataclass(frozen=True)
class Contents:
    """What files hold.

    Attributes:
        files: of each its size and a digest of its content, by its name relative to the data's folder.
    """

    files: Mapping[str, tuple[int, str]]

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that change with every name, size and content."""
        lines = (f"{name}\0{size}\0{content}\n" for name, (size, content) in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def record(self) -> dict[str, int | str]:
        """What a checkpoint and a result keep: the number of files, their bytes and the digest."""
        size = sum(size for size, _ in self.files.values())
        return {"files": len(self.files), "bytes": size, "digest": self.digest}

    def remembered(self, what: str, find: Callable[[], bool]) -> bool:
        """Whether something is true of the files, found out once.

        Args:
            what: a name of it.
            find: finds out.
        """
        path = _place() / f"{self.digest}-{what}.json"
        if (known := _read(bool, path)) is None:
            known = find()
            with contextlib.suppress(OSError):
                _write(known, path)
        return bool(known)

    def changed_since(self, record: Mapping[str, Any]) -> str | None:
        """Say what differs from files of before, by their `record`; None: nothing."""
        if record.get("digest") == self.digest:
            return None
        former = _former(str(record.get("digest")))
        if former is None:
            then = f"{record.get('files', 0):,} files of {record.get('bytes', 0):,} bytes"
            now = self.record
            return f"{then} then, {now['files']:,} of {now['bytes']:,} bytes now"
        names = {
            "added": self.files.keys() - former.keys(),
            "removed": former.keys() - self.files.keys(),
            "changed": {name for name in self.files.keys() & former.keys() if self.files[name] != former[name]},
        }
        told = ", ".join(f"{len(found):,} {how}" for how, found in names.items() if found)
        first = min(name for found in names.values() for name in found)
        return f"files: {told}, such as {first}"


def contents_of(root: Path, paths: Iterable[Path]) -> Contents:
    """Read what files hold, those alone that have changed since they were last read.

    Args:
        root: the folder that they are in.
        paths: of the files, below it.

    Raises:
        DataError: a file cannot be read.
    """
    start = len(str(root)) + 1 if root != Path() else 0
    named = {str(path)[start:].replace("\\", "/"): path for path in paths}
    place = _place() / f"{hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]}.json"
    with contextlib.ExitStack() as stack:
        can_keep = True
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(place.with_suffix(".lock")))
        except OSError:  # a home folder that is not ours to write: read everything
            can_keep = False
        known = _read(Known, place) or {}
        found = _found(named, known)
        contents = Contents({name: (size, content) for name, (size, _, content) in found.items()})
        if can_keep:
            settled = time.time_ns() - SETTLED_NS
            kept = {name: each for name, each in found.items() if each[1] < settled}
            with contextlib.suppress(WriteError):
                if kept != known:
                    _write(kept, place)
                if not (of_digest := _place() / f"{contents.digest}.json").exists():
                    _write(dict(contents.files), of_digest)
    return contents


def _found(named: Mapping[str, Path], known: Known) -> Known:
    found: Known = {}
    new: list[tuple[str, int, int]] = []
    try:
        for name, path in named.items():
            stat, before = path.stat(), known.get(name)
            if before is not None and before[:2] == (stat.st_size, stat.st_mtime_ns):
                found[name] = before
            else:
                new.append((name, stat.st_size, stat.st_mtime_ns))
        with ThreadPoolExecutor() as pool:

            def read(start: int) -> Known:
                part = new[start : start + AT_ONCE]
                return {name: (size, changed, _digest(named[name])) for name, size, changed in part}

            for part in pool.map(read, range(0, len(new), AT_ONCE)):
                found |= part
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _place() -> Path:
    return platformdirs.user_cache_path("capsbench") / "digests"


def _former(digest: str) -> dict[str, tuple[int, str]] | None:
    return _read(dict[str, tuple[int, str]], _place() / f"{digest}.json") if digest.isalnum() else None


def _read(kind: Any, path: Path) -> Any:
    """Read a list of files; None where there is none that can be used."""
    try:
        return TypeAdapter(kind).validate_json(read_bytes(path, LARGEST))
    except (OSError, ValueError):
        return None


def _write(value: Any, path: Path) -> None:
    with written_atomically(path) as temporary:
        temporary.write_bytes(to_json(value))
