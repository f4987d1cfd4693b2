"""Whether one's own data is still what a finished run was trained on."""

import logging
import shlex
from collections.abc import Mapping
from typing import Any

from capsbench.data.digest import Contents, contents_of
from capsbench.data.files import DataError
from capsbench.data.own_files import own_files
from capsbench.runs.folder import RunFolder
from capsbench.runs.result import Result, ResultError

log = logging.getLogger(__name__)


class DataChanges:
    """Compares finished runs with the data of today. Each data set is looked at once."""

    def __init__(self) -> None:
        self._today: dict[str, Contents | None] = {}

    def since(self, folder: RunFolder, data: Mapping[str, Any]) -> str | None:
        """Say what has changed since a run was finished.

        Args:
            folder: of the run.
            data: its settings of data.

        Returns:
            In words; None: nothing, or nobody can tell, as the data or a record of it is not there.
        """
        try:
            record = Result.load(folder.path).data_files
        except (FileNotFoundError, ResultError):
            return None
        today = self._contents(data) if record else None
        return None if today is None else today.changed_since(record)

    def tell(self, folder: RunFolder, data: Mapping[str, Any]) -> bool:
        """Say in a line that a run is finished; return whether its data has changed since."""
        if changed := self.since(folder, data):
            log.warning(finished_before_change(folder, changed))
        else:
            log.info("%s: finished before, skipped (delete the folder to run it again)", folder)
        return changed is not None

    def _contents(self, data: Mapping[str, Any]) -> Contents | None:
        key = repr([data.get(name) for name in ("_target_", "path", "data_dir", "val_split")])
        if key not in self._today:
            try:
                found = own_files(data)
                self._today[key] = found and contents_of(*found)
            except (DataError, OSError):
                self._today[key] = None
        return self._today[key]


def begin_anew(folder: RunFolder) -> str:
    """Say how a run is trained from the beginning."""
    return f"train from the beginning: rm -r {shlex.quote(str(folder))}, then the same command"


def finished_before_change(folder: RunFolder, changed: str) -> str:
    """Say that a run was finished with other data."""
    return (
        f"{folder} was finished before the data changed ({changed}); put the former data back, or {begin_anew(folder)}"
    )
