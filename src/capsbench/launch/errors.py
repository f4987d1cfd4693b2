"""Errors as a user wants them: one line that says what was wrong, what is allowed and what to do."""

import contextlib
import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
NO_COMPILER = "InvalidCxxCompiler"
"""How torch.compile says so, in an error of several types."""
EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""Hydra's launchers that come in packages of their own, with the extra that installs each."""

WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line on stderr and exit code 1 where the body raises; HYDRA_FULL_ERROR=1 shows all."""
    if WANTS_TRACEBACK:
        yield
        return
    os.environ[FULL_ERROR] = "1"  # Hydra then hands its errors over instead of printing them
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(f"error: {describe(error)}")
    finally:
        del os.environ[FULL_ERROR]


def plain_exit(task: Callable[..., Any]) -> Callable[..., Any]:
    """Let a Hydra task that runs alone end by itself, in one line, before Hydra adds lines of its own.

    In a sweep the error goes to Hydra, which carries on with the other jobs and raises it at the end.
    """

    @functools.wraps(task)
    def wrapped(config: Any) -> Any:
        try:
            return task(config)
        except Exception as error:
            if WANTS_TRACEBACK:
                raise
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                overrides = " ".join(HydraConfig.get().overrides.task)
                log.error("failed: %s: %s", overrides, describe(error))
                raise
            sys.exit(f"error: {describe(error)}")

    return wrapped


def describe(error: BaseException) -> str:
    """An exception in one line."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    cause = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=…"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and name in EXTRAS:
            return missing_extra(f"the launcher {name}", EXTRAS[name])
        return f"there is no {group}={name}; {_choice(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override}: {error.message.splitlines()[0]}"
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return _describe_key(cause) or _joined(error)
    if str(error).startswith(NO_COMPILER):
        return "compile needs a C++ compiler such as g++, and none works here; install one, or take compile=null"
    if isinstance(error, (ValueError, RuntimeError)) or type(error).__module__.startswith(("hydra", "omegaconf")):
        return _joined(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"cannot use {error.filename or 'a file'}: {error.strerror}; output_dir and data_dir say where files go"
    return f"{type(error).__name__}: {_joined(error)}"


def missing_extra(what: str, extra: str) -> str:
    """What to do where an optional package is not installed."""
    return f"{what} needs a package that is not installed: pip install 'capsbench[{extra}]'"


def _describe_key(error: OmegaConfBaseException) -> str | None:
    """An override of a key that does not exist, with the nearest that do."""
    if error.key is None or error.parent_node is None or not hasattr(error.parent_node, "keys"):
        return None
    return f"there is no setting {error.full_key}; {_choice(str(error.key), error.parent_node.keys())}"


def _choice(name: str, allowed: Iterable[object]) -> str:
    names = sorted(str(option) for option in allowed if not str(option).startswith("_"))
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}There are: {', '.join(names)}"


def _joined(error: BaseException) -> str:
    return " ".join(str(error).split())
