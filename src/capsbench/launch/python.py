"""`capsbench.train`: a run of `capsbench train`, asked for in Python."""

import contextlib
import logging
import os
import random
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.version import VersionBase
from omegaconf import OmegaConf

from capsbench.data.files import DataError
from capsbench.launch.config import Composer, RunConfig, open_configuration
from capsbench.launch.errors import ExitCode, describe, exit_code
from capsbench.launch.noise import LOGGERS
from capsbench.launch.one_run import train as train_planned
from capsbench.launch.sweep import PlannedRun, keep_names
from capsbench.runs import Result
from capsbench.runs.data_changes import DataChanges, finished_before_change
from capsbench.runs.state import Shown
from capsbench.signals import Interrupted, heeded

PLAIN = re.compile(r"[\w.+-]+([/:][\w.+-]*)*")
"""Words that Hydra's grammar takes as they are."""


def train(
    *,
    router: str | None = None,
    data: str | None = None,
    seed: int | None = None,
    progress: Shown = "nothing",
    config_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Train a run as `capsbench train` does: the same run in the same folder with the same numbers.

    A finished run is not trained again, an interrupted one goes on. Afterwards the process is as it was: its random
    numbers, environment, handlers of signals and Hydra's state::

        result = capsbench.train(router="dynamic", data="fashion_mnist", seed=1, trainer={"max_epochs": 3})
        print(result.metrics["test/accuracy"])
        classifier = capsbench.load(result.run.folder("outputs"))

    Args:
        router, data, seed: as in the command, which has defaults for them.
        progress: how far the run is shows as a "bar", as "lines" for each epoch, or "nothing" shows.
        config_dir: a directory with choices of your own.
        **settings: further choices (`arch="capsnet"`) and settings, nested (`trainer={"max_epochs": 3}`) or by dotted
            names (`**{"router.iterations": 1, "+trainer.max_time": "00:01:00:00"}`).

    Returns:
        What is in the run's result.json.

    Raises:
        ValueError: a choice or setting cannot be used; the text is that of the command.
        DataError: the data cannot be had, or has changed since the run was begun.
        RuntimeError: the run failed, now or before.
        LockedError: another process trains it.
        KeyboardInterrupt: Ctrl-C; the run has saved, and the same call continues it.

    >>> train(router="nobody")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: there is no router=nobody; There are: attention, ...
    """
    named = {"router": router, "data": data, "seed": seed}
    words = list(as_words({name: value for name, value in named.items() if value is not None} | settings))
    with _unchanged_process():
        try:
            with heeded():
                return _train(words, progress, None if config_dir is None else os.fspath(config_dir))
        except Interrupted as error:
            if error.signal_number == signal.SIGINT:
                raise KeyboardInterrupt(str(error)) from error
            raise
        except Exception as error:
            if isinstance(error, ValueError) or exit_code(error) != ExitCode.USAGE:
                raise
            raise ValueError(describe(error)) from error


def _train(words: list[str], progress: Shown, config_dir: str | None) -> Result:
    if config_dir is not None:
        sys.path.append(str(Path(config_dir).absolute().parent))
    with open_configuration(config_dir) as loader:
        composed = Composer(loader).compose(words)
    _check_launcher(composed)
    run = PlannedRun.of(composed, words)
    keep_names([run])
    if not run.folder.is_finished:
        with run.folder.locked():
            if not run.folder.is_finished:
                return train_planned(OmegaConf.create(dict(composed.resolved)), run, progress)
    if changed := DataChanges().since(run.folder, run.data):
        raise DataError(finished_before_change(run.folder, changed))
    return Result.load(run.folder.path)


def _check_launcher(composed: RunConfig) -> None:
    if (launcher := composed.choices["launcher"]) != "serial":
        raise ValueError(
            f"launcher={launcher} is for the runs of a sweep, and capsbench.train trains one run here; leave it out, "
            "or use the command capsbench train -m"
        )


def as_words(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings as they are typed on the command line.

    >>> list(as_words({"router": "fm", "trainer": {"max_epochs": 3}, "data.path": "a b", "freeze": ["conv", None]}))
    ['router=fm', 'trainer.max_epochs=3', "data.path='a b'", 'freeze=[conv,null]']
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from as_words(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={_word(value)}"


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    text = str(value)
    return text if PLAIN.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()


@contextlib.contextmanager
def _unchanged_process() -> Iterator[None]:
    """Put back after the block what a run changes in its process."""
    import numpy as np  # late, as PyTorch: `import capsbench` is fast
    import torch

    environment, path, version = dict(os.environ), list(sys.path), VersionBase.instance().version_base
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    deterministic = torch.are_deterministic_algorithms_enabled()
    numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global ones, which a seed sets
    with warnings.catch_warnings(), torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(numbers[0])
            np.random.set_state(numbers[1])  # noqa: NPY002
            torch.use_deterministic_algorithms(deterministic)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            for key in os.environ.keys() - environment.keys():
                del os.environ[key]
            os.environ.update(environment)
            sys.path[:] = path
            VersionBase.instance().version_base = version
