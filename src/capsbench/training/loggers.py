"""Loggers that stop no run, and that of Weights & Biases."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import loggers

from capsbench import signals

log = logging.getLogger(__name__)


class UnfailingLogger(loggers.Logger):
    """A logger that stops no run: its first error is a line in the log, and then it gets nothing more.

    It counts epochs from 1, as `History` does; Lightning counts from 0.

    Args:
        logger: what is logged to.
    """

    def __init__(self, logger: loggers.Logger) -> None:
        super().__init__()
        self.logger = logger
        self._failed = False

    def attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call a function of the logger, unless one failed before."""
        if self._failed:
            return
        try:
            action(*arguments)
        except Exception as error:
            signals.raise_if_received()
            self._failed = True
            log.warning("%s failed, the run goes on without it: %s", type(self.logger).__name__, _in_one_line(error))

    @property
    def name(self) -> str | None:
        return self.logger.name

    @property
    def version(self) -> int | str | None:
        return self.logger.version

    @property
    def save_dir(self) -> str | None:
        return self.logger.save_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        counted = {"epoch": metrics["epoch"] + 1} if "epoch" in metrics else {}
        self.attempt(self.logger.log_metrics, {**metrics, **counted}, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self.attempt(self.logger.log_hyperparams, params)

    def save(self) -> None:
        self.attempt(self.logger.save)

    def finalize(self, status: str) -> None:
        self.attempt(self.logger.finalize, status)

    def log_pictures(self, pictures: list[Path]) -> None:
        """Hand pictures to a logger that takes any, each under its file's name."""
        if isinstance(self.logger, loggers.WandbLogger):
            for picture in pictures:
                self.attempt(self.logger.log_image, f"pictures/{picture.stem}", [str(picture)])

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Hand what a run came to, beside its epochs, to a logger that keeps a summary."""
        if isinstance(logger := self.logger, loggers.WandbLogger):
            self.attempt(lambda: logger.experiment.summary.update(dict(values)))

    def finish(self, exit_code: int) -> None:
        """End the logger's run where it has one, also after an error: else the sweep's next run would go on in it.

        Args:
            exit_code: 0, or how a process that ends so ends.
        """
        if isinstance(logger := self.logger, loggers.WandbLogger) and logger._experiment is not None:
            self._failed = False
            self.attempt(lambda: logger.experiment.finish(exit_code=exit_code))
        elif isinstance(logger, loggers.MLFlowLogger) and exit_code:
            self.attempt(logger.finalize, "failed")


class WandbLogger(loggers.WandbLogger):
    """Lightning's, which logs into offline files where Weights & Biases cannot be reached.

    Args:
        **options: see Lightning's; others go to `wandb.init`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._wandb_init.pop("anonymous", None)  # wandb warns of it, whatever its value

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What wandb calls a run."""
        if self._experiment is None and self.save_dir:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary folder
        try:
            return super().experiment
        except Exception as error:
            signals.raise_if_received()
            if self._wandb_init.get("mode") == "offline":
                raise
            import wandb

            log.warning("logged offline, since Weights & Biases failed: %s", _in_one_line(error))
            wandb.teardown()  # else the run would count as one in use
            self._wandb_init["mode"] = "offline"
            return super().experiment


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
