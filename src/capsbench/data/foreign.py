"""Reading what anybody may have written: regular files of a bounded size, and folders without links."""

import math
import os
import stat
import zipfile
from pathlib import Path

LARGEST = 16 * 2**20
"""Bytes of a file that is read whole, if nothing else is said: the confusion matrix of a thousand classes fits."""


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """Read a file that is neither a link nor a pipe or device, and not larger than expected.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is something else, or larger.
        OSError: it cannot be read.
    """
    check_regular(path)
    # What took its place since then is not followed or waited for either.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:
        found = os.fstat(stream.fileno())
        _check_regular(path, found.st_mode)
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path} has {found.st_size:,} bytes, more than the {most:,} that such a file may have")
    return content


def check_regular(path: Path) -> None:
    """Check that a file is neither a link nor a pipe or device.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is something else.
    """
    _check_regular(path, path.lstat().st_mode)


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise ValueError(f"{path} is a link, which is not followed; replace it by the file itself")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is not a regular file; remove it")


def refuse_links(folder: Path, but: tuple[str, ...] = ()) -> None:
    """Require a folder to hold its files itself; that it is a link itself is its owner's choice.

    Args:
        folder: whose files will be written, or copied to others.
        but: names of folders in it that are not looked into.

    Raises:
        ValueError: something in it is a link.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                raise ValueError(
                    f"{path} is a link, and nothing is written through or copied from one; replace it by what it "
                    "points to, or remove it"
                )
        folders[:] = [name for name in folders if name not in but]


def unpacked_bytes(archive: Path) -> int:
    """The size of all files in a zip archive, such as NumPy's .npz; reading gives no more.

    Raises:
        zipfile.BadZipFile, OSError: it is none.
    """
    with zipfile.ZipFile(archive) as members:
        return sum(member.file_size for member in members.infolist())


def memory_bytes() -> float:
    """The memory of this machine; infinite where the system does not tell."""
    known = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in known:
        return math.inf
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def free_memory_bytes() -> float:
    """The memory of this machine that is not in use; where the system does not tell, all of it."""
    try:
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024.0 * int(known["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return memory_bytes()
