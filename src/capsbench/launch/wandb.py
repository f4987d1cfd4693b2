"""Weights & Biases as a command finds it: looked at once, before its runs start, and told in one line."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from capsbench.data.files import at_home

log = logging.getLogger(__name__)

PATIENCE_S = 8.0
ASK = "import wandb; print(wandb.Api(timeout=5).default_entity)"
"""In a process of its own: it can be stopped, asks nobody for a key, and leaves no service behind."""
VARIABLES = {"mode": "WANDB_MODE", "project": "WANDB_PROJECT", "entity": "WANDB_ENTITY", "save_dir": "WANDB_DIR"}
"""Settings of the logger that follow from the environment, where no other value is given."""
ONLINE, OFFLINE = ("online", "run", "shared"), ("offline", "dryrun")
"""Modes, by wandb's names of today and of before."""

AGENT = "WANDB_SWEEP_ID"
"""The variable that an agent of a sweep there sets for the runs that it starts."""

Loggers = Mapping[str, Mapping[str, Any]]
"""The setting `logger` of a run, resolved."""


def settle(runs: Sequence[tuple[Loggers, Path]], *, elsewhere: bool = False) -> list[dict[str, str]]:
    """Look whether there are a network and an account, if runs need them; say in one line where the runs are logged.

    Args:
        runs: loggers and folder of each.
        elsewhere: they are trained where the environment may be another.

    Returns:
        settings that each run is to be given: {"logger.wandb.mode": "offline"}.
    """
    logged = [(settings, folder) for loggers, folder in runs for _, settings in of_wandb(loggers)]
    modes = {settings.get("mode") for settings, _ in logged}
    cause = _cause_of_silence(logged[0][0]) if modes.intersection(ONLINE) else None
    if cause is not None:
        log.warning("Weights & Biases cannot be used (%s), so runs are logged offline; %s", cause, _sync(logged))
    elif modes.intersection(OFFLINE):
        log.info("Weights & Biases: runs are logged offline; %s", _sync(logged))
    return [dict(_settings(loggers, cause is not None, elsewhere)) for loggers, _ in runs]


def as_words(settings: Mapping[str, str]) -> list[str]:
    """Settings in Hydra's grammar."""
    return [f"++{key}={QuotedString(value, Quote.single).with_quotes()}" for key, value in settings.items()]


def of_wandb(loggers: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The loggers that log to Weights & Biases."""
    for name, settings in loggers.items():
        if str((settings or {}).get("_target_")).endswith(".WandbLogger"):
            yield name, settings


def _cause_of_silence(settings: Mapping[str, Any]) -> str | None:
    """Why nothing can be uploaded; None if it can, which a line says, too."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a pipe would wait for wandb's own process
        command = [sys.executable, "-P", "-c", ASK]
        try:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"no answer within {PATIENCE_S:.0f} s"
        said.seek(0)
        last = (said.read().strip().splitlines() or [""])[-1]
    if ended.returncode:
        return last.partition(": ")[2][:160].rstrip(".") or f"exit code {ended.returncode}"
    log.info(
        "Weights & Biases: runs appear in project %s of %s", settings.get("project"), settings.get("entity") or last
    )
    return None


def _sync(logged: Sequence[tuple[Mapping[str, Any], Path]]) -> str:
    """How to upload what these runs leave: one pattern for all their folders."""
    places = {
        Path(folder if settings.get("save_dir") is None else at_home(settings["save_dir"]))
        for settings, folder in logged
    }
    levels = zip(*(place.parts for place in places), strict=False)
    place = Path(*(level[0] if len(set(level)) == 1 else "*" for level in levels))
    return f"wandb sync {place / 'wandb' / 'offline-run-*'} uploads them"


def _settings(loggers: Loggers, is_silent: bool, elsewhere: bool) -> Iterator[tuple[str, str]]:
    for name, settings in of_wandb(loggers):
        if is_silent and settings.get("mode") in ONLINE:
            settings = {**settings, "mode": "offline"}
            yield f"logger.{name}.mode", "offline"
        for key, variable in VARIABLES.items():
            if elsewhere and variable in os.environ and settings.get(key) is not None:
                yield f"logger.{name}.{key}", str(settings[key])
