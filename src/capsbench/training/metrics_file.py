"""Lightning's metrics.csv, always whole on disk."""

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from capsbench.data.files import written_atomically


class MetricsFile(CSVLogger):
    """A CSVLogger that replaces its file instead of adding lines to it: a full disk or a kill leaves the one before.

    Args:
        **options: see `CSVLogger`.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> _ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            self._fs.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _WholeFile(log_dir=self.log_dir)
        return self._experiment


class _WholeFile(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._rows: list[dict[str, Any]] = []

    def save(self) -> None:
        if not self.metrics:
            return
        self._rows += self.metrics
        self.metrics = []
        with (
            written_atomically(Path(self.metrics_file_path)) as path,
            path.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, sorted(set().union(*self._rows)))
            writer.writeheader()
            writer.writerows(self._rows)

    def _check_log_dir_exists(self) -> None:
        """Leave the file of an earlier session where it is, until it is replaced."""
