"""Names of sweeps: `name=monday` lists the runs of a command, so that a report can ask for them together."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import filelock

from capsbench.data.files import written_atomically
from capsbench.data.reading import read_json
from capsbench.runs.folder import RunFolder

NAMES = "names"
"""The folder of lists, beside those of experiments."""
ALLOWED = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class NamedRuns:
    """The runs of a name: a JSON list of their folders. A name is no part of what a run is; a run may have several.

    Args:
        outputs: the folder that the runs are in.
        name: up to 100 letters, digits, - and _.

    Raises:
        ValueError: the name has other characters.
    """

    outputs: Path
    name: str

    def __post_init__(self) -> None:
        if not ALLOWED.fullmatch(self.name):
            raise ValueError(f"name must be 1 to 100 letters, digits, - and _, such as name=monday, got {self.name!r}")

    @property
    def path(self) -> Path:
        """Of the list."""
        return self.outputs / NAMES / f"{self.name}.json"

    @property
    def folders(self) -> list[RunFolder]:
        """Of the runs, in the order in which they were asked for; they need not be finished, or exist.

        Raises:
            ValueError: no run has this name, or the file is no list of folders.
        """
        try:
            listed = read_json(self.path)
        except FileNotFoundError:
            known = ", ".join(sorted(path.stem for path in self.path.parent.glob("*.json"))) or "no names yet"
            raise ValueError(f"no run in {self.outputs} has the name {self.name}; there are: {known}") from None
        except ValueError as error:
            raise ValueError(f"{self.path} cannot be read ({error}); delete it and give its commands again") from error
        if not isinstance(listed, list) or not all(map(_is_below, listed)):
            raise ValueError(f"{self.path} is no list of folders; delete it and give its commands again")
        return [RunFolder(self.outputs / folder) for folder in listed]

    def add(self, folders: Iterable[RunFolder]) -> None:
        """Append runs to the list, each once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.path.with_suffix(".lock")):
            before = self.folders if self.path.is_file() else []
            listed = [folder.path.relative_to(self.outputs).as_posix() for folder in dict.fromkeys([*before, *folders])]
            with written_atomically(self.path) as path:
                path.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _is_below(folder: object) -> bool:
    """Whether this is a path that does not lead out of the folder that it is relative to."""
    return isinstance(folder, str) and not PurePath(folder).is_absolute() and ".." not in PurePath(folder).parts


def named_folders(outputs: Path, names: Iterable[str]) -> list[RunFolder]:
    """The folders of the runs that have one of these names, each once, in the order of the names.

    Args:
        outputs: the folder that the runs are in.
        names: as given by `name=…`.

    Raises:
        ValueError: no run has one of the names.
    """
    return list(dict.fromkeys(folder for name in names for folder in NamedRuns(outputs, name).folders))
