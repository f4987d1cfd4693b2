"""The job of a cluster's queue that a run was handed to: a note in its folder, which only the queue confirms."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field

from capsbench.data.files import written_atomically
from capsbench.runs.folder import RunFolder
from capsbench.runs.reading import LONGEST, STRICT, checked, read_json


@dataclass(frozen=True)
class Submission:
    """The job that a run was handed to last.

    Attributes:
        number: as the queue names it: "17", or "17_3" in an array.
        log: absolute path of what the job prints.
        engine: whose queue it is.
    """

    __pydantic_config__ = STRICT

    number: Annotated[str, Field(pattern=r"^[0-9]{1,10}(_[0-9]{1,10})?$")]
    log: Annotated[str, Field(max_length=LONGEST)]
    engine: Literal["slurm"] = "slurm"

    def save(self, folder: RunFolder) -> None:
        """Leave it in a run's folder, which need not exist.

        Raises:
            ValueError: there is a link in the folder.
            WriteError: it cannot be written.
        """
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.refuse_links()
        with written_atomically(folder.job) as path:
            path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: RunFolder) -> "Submission | None":
        """What lies in a run's folder; None if there is nothing, or nothing that can be believed."""
        try:
            return checked(cls, read_json(folder.job))
        except (OSError, ValueError):
            return None
