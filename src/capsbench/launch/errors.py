"""Errors as a user wants them: one line that says what was wrong, what is allowed and what to do; and exit codes."""

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NoReturn

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from capsbench.data.files import DataError, WriteError
from capsbench.signals import raise_if_received

FULL_ERROR = "HYDRA_FULL_ERROR"
NO_COMPILER = "InvalidCxxCompiler"
"""How torch.compile says so, in an error of several types."""
SETUP_REFUSED = "MisconfigurationException"
"""What Lightning's trainer raises where it cannot be set up; its module takes long to import."""
NO_MEMORY = ("out of memory", "allocate memory", "enough memory", "bad_alloc", "ALLOC_FAILED")
"""How PyTorch, C++ and CUDA say so, in errors of several types."""
EXTRAS = {"joblib": "joblib", "ray": "ray", "capsbench_ray": "ray", "submitit_local": "slurm"}
EXTRAS |= dict.fromkeys(("submitit_slurm", "capsbench_slurm"), "slurm")
"""Hydra's launchers that come in packages of their own, with the extra that installs each."""
PACKAGES = {"wandb": "wandb", "triton": "triton", "wandb_workspaces": "'capsbench[dashboard]'"}
PACKAGES |= {name: f"'capsbench[{name}]'" for name in ("tensorboard", "mlflow")}
PACKAGES |= dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "'capsbench[export]'")
PACKAGES |= {"pyarrow": "'capsbench[parquet]'"}
PACKAGES |= {"joblib": "'capsbench[joblib]'", "ray": "'capsbench[ray]'", "submitit": "'capsbench[slurm]'"}
"""Packages that are used only where they are asked for, with what pip installs."""
SAME = {"tensorboardX": "tensorboard"}
"""Packages in whose place another does."""
REQUIREMENT = re.compile(r"Requirement '([\w-]+)")
"""How Lightning names a package that is missing."""
NOT_THERE = re.compile(r"Interpolation key '(.+?)' not found(?:\s+full_key: (\S+))?")
UNKNOWN_ARGUMENT = re.compile(r"(?:(\w+)(?:\.__init__)?\(\) )?got an unexpected keyword argument '(\w+)'")

OF_MACHINES = (OSError, MemoryError, ImportError, DataError)
SHORTAGES = (*NO_MEMORY, "busy or unavailable", "PytorchStreamWriter failed", "NCCL")
"""How PyTorch says that memory, a GPU, the disk or the way between GPUs is short, in a RuntimeError."""

WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"


class ExitCode(IntEnum):
    """How a command ends. One that a signal stopped ends with 128 + the signal's number: 130 for Ctrl-C."""

    DONE = 0
    FAILED = 1
    """The last line on stderr says why; or, of a sweep, how many runs failed."""
    USAGE = 2
    """There is no such command, action, switch or setting, or a setting cannot be used."""


class CommandError(SystemExit):
    """The end of a command after an error; as text it is the line that was printed.

    Args:
        line: on stderr.
        code: of the process.
    """

    def __init__(self, line: str, code: ExitCode) -> None:
        super().__init__(line)
        self.code = code


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Where the body raises, end the process with one line on stderr; HYDRA_FULL_ERROR=1 shows the traceback."""
    if WANTS_TRACEBACK:
        yield
        return
    os.environ[FULL_ERROR] = "1"  # Hydra then hands its errors over instead of printing them
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        raise_if_received()
        fail(describe(error), exit_code(error))
    finally:
        del os.environ[FULL_ERROR]


def fail(cause: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """End the process with one line on stderr.

    Raises:
        CommandError: always.
    """
    sys.stdout.flush()
    line = f"error: {cause}"
    print(line, file=sys.stderr)
    raise CommandError(line, code)


def exit_code(error: BaseException) -> ExitCode:
    """USAGE where an exception blames what was asked for, else FAILED.

    >>> exit_code(ValueError("seed must be …")).name, exit_code(RuntimeError("no network")).name
    ('USAGE', 'FAILED')
    """
    cause = origin(error)
    blames = isinstance(cause, (ValueError, HydraException, OmegaConfBaseException))
    blames |= type(cause).__name__ == SETUP_REFUSED
    blames |= isinstance(cause, TypeError) and (cause is not error or UNKNOWN_ARGUMENT.search(str(cause)) is not None)
    return ExitCode.USAGE if blames else ExitCode.FAILED


def blames_machine(error: BaseException) -> bool:
    """Whether an exception blames where a run is, not the run: memory, disk, network, data, what is installed.

    >>> blames_machine(OSError(28, "No space left on device")), blames_machine(IndexError("list index out of range"))
    (True, False)
    """
    error = origin(error)
    is_of_service = type(error).__module__.partition(".")[0] in ("wandb", "submitit")
    return isinstance(error, OF_MACHINES) or is_of_service or any(words in str(error) for words in SHORTAGES)


def describe(error: BaseException) -> str:
    """An exception in one line."""
    outer, error = error, origin(error)
    cause = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=…"
    if isinstance(error, InterpolationKeyError) and (found := NOT_THERE.search(str(error))):
        return f"{found[2] or 'a setting'} is taken from {found[1]}, which is not there; give a value itself"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and name in EXTRAS:
            return missing_extra(f"the launcher {name}", EXTRAS[name])
        return f"there is no {group}={name}; {choice_of(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read the override {error.override}: a setting is name=value, and a value with special characters "
            "is quoted twice: name=\"'a=b (c)'\""
        )
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return _describe_key(cause) or _joined(error)
    if isinstance(error, OmegaConfBaseException):
        return _describe_key(error) or _joined(error)
    if str(error).startswith(NO_COMPILER):
        return "compile needs a C++ compiler such as g++, and none works here; install one, or set compile=null"
    if isinstance(error, ImportError):
        return _describe_import(error)
    if type(error).__module__.partition(".")[0] == "wandb":
        return f"Weights & Biases: {_joined(error)}; log in with wandb login, or set logger.wandb.mode=offline"
    if type(error).__name__ == SETUP_REFUSED:
        return f"the trainer cannot use its settings: {_joined(error)}; capsbench train --cfg job shows them"
    if isinstance(error, TypeError) and (found := UNKNOWN_ARGUMENT.search(str(error))):
        return f"{found[1] or 'a part'} has no setting {found[2]}; capsbench train --cfg job shows those that there are"
    if isinstance(error, TypeError) and outer is not error:
        part = str(outer).rpartition("full_key: ")[2]
        return f"{part} cannot be made from its settings: {_joined(error)}; capsbench train --cfg job shows them"
    says_all = isinstance(error, (ValueError, RuntimeError, MemoryError))
    says_all |= (
        isinstance(error, (ChildProcessError, ConnectionError)) and error.errno is None
    )  # ours, not the system's
    if says_all or type(error).__module__.startswith("hydra"):
        return _joined(error) or type(error).__name__
    if isinstance(error, WriteError):
        return f"{error}; output_dir and data_dir say where files go"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot use {error.filename or 'a file'}: {error.strerror}; output_dir and data_dir say where files go"
    return f"unexpected {type(error).__name__}: {_joined(error)}; {FULL_ERROR}=1 shows where"


def _describe_import(error: ImportError) -> str:
    cause = error if isinstance(error, ModuleNotFoundError) else error.__cause__
    if not isinstance(cause, ModuleNotFoundError):
        return _joined(error)
    requirement = REQUIREMENT.search(str(cause))
    module = requirement[1] if requirement else str(cause.name)
    module = SAME.get(module, module)
    if (package := module.partition(".")[0]) in PACKAGES:
        return f"{package} is not installed: pip install {PACKAGES[package]}"
    parent, _, name = module.rpartition(".")
    if parent in sys.modules:
        return f"there is no {name} in {parent}"
    return (
        f"there is no module {module}: install its package, put {package}.py beside the directory of --config-dir, "
        "or name its folder in PYTHONPATH"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was short: a CPU's or a device's.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    True
    """
    is_one = isinstance(error, (RuntimeError, OSError)) and any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or is_one


@contextlib.contextmanager
def naming_batch_sizes(data: Mapping[str, Any]) -> Iterator[None]:
    """Where the body is out of memory, say how large batches were and what to lower.

    Args:
        data: its settings.

    Raises:
        MemoryError: the body is out of memory.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        batches = " and ".join(f"data.{key}={data[key]}" for key in ("batch_size", "eval_batch_size") if key in data)
        said = _joined(error)[:160] or type(error).__name__
        raise MemoryError(
            f"out of memory with {batches or 'these batches'}: lower them, or choose a smaller arch or "
            f"trainer.precision=bf16-mixed ({said})"
        ) from error


def missing_extra(what: str, extra: str) -> str:
    """What to do where an optional package is not installed."""
    return f"{what} needs a package that is not installed: pip install 'capsbench[{extra}]'"


def choice_of(name: str, allowed: Iterable[object]) -> str:
    """What may stand in the place of a name, those nearest to it first: "did you mean …? There are: …"."""
    names = sorted(str(option) for option in allowed if not str(option).startswith("_"))
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}There are: {', '.join(names)}"


def listed(names: Sequence[str], most: int) -> str:
    """Name the first of several.

    >>> listed(["cat", "dog", "cow"], 2)
    'cat, dog and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _describe_key(error: OmegaConfBaseException) -> str | None:
    """An override of a key that does not exist, with the nearest that do."""
    if error.key is None or error.parent_node is None or not hasattr(error.parent_node, "keys"):
        return None
    if error.key in error.parent_node:
        return None
    return f"there is no setting {error.full_key}; {choice_of(str(error.key), error.parent_node.keys())}"


def origin(error: BaseException) -> BaseException:
    """What a constructor that Hydra called raised."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _joined(error: BaseException) -> str:
    return " ".join(str(error).split())
