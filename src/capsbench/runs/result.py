"""The result of a finished run: one JSON file, written last and whole."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from capsbench.data.files import written_atomically

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Result:
    """What a run was and what came out of it. A report trusts nothing else.

    Attributes:
        experiment, data, arch, router, seed, settings, choices, identity: see `Identity`; `identity` is its digest.
        metrics: `test/accuracy`, `test/loss`, `train/accuracy`, `train/loss` (of the last epoch),
            `train/images_per_second`, `inference/ms_per_batch` and `inference/batch_size`. Accuracies are shares of 1.
        history: for each epoch its number ("epoch", from 1) and the metrics measured in it.
        parameters: trainable ones.
        epochs, steps: done.
        wall_time_s: of training and the evaluations during it, in seconds.
        versions: of Python and the packages that compute.
        device: what it ran on, in words.
        git_commit: of the code, with "+" where the tree was changed; None outside a repository.
        smoke: cut short on purpose; no table of the paper shows it.
        data_title: what the data is called in tables, say "affNIST (generated)".
        stands_in_for: the title of the set that this data takes the place of ("affNIST"), or None.
        train_examples, test_examples: in the splits.
        full: neither a smoke run nor trained on a part of the training set.
    """

    experiment: str
    data: str
    arch: str
    router: str
    seed: int
    identity: str
    settings: Mapping[str, Any]
    choices: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float | int]]
    parameters: int
    epochs: int
    steps: int
    wall_time_s: float
    versions: Mapping[str, str]
    device: str
    git_commit: str | None
    smoke: bool
    data_title: str
    stands_in_for: str | None
    train_examples: int
    test_examples: int
    full: bool

    def save(self, folder: Path) -> None:
        """Write result.json so that it is either not there or whole, whenever the process dies."""
        with written_atomically(folder / RESULT_FILE) as path:
            path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False))

    @classmethod
    def load(cls, folder: Path) -> "Result":
        """Read a run folder's result.

        Raises:
            FileNotFoundError: the run is not finished.
            ValueError: the file is not a result.
        """
        path = folder / RESULT_FILE
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a result of this version ({error}); delete it to run again") from error


def versions() -> dict[str, str]:
    """Versions of Python and the packages that compute."""
    packages = ("capsbench", "torch", "torchvision", "lightning", "torchmetrics")
    return {"python": platform.python_version()} | {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path
        return "not installed"


def describe_device(device: torch.device) -> str:
    """A device in words: the GPU's name, or the processor and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def git_commit() -> str | None:
    """The commit of the code, "+" appended where tracked files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not Path(git("rev-parse", "--show-toplevel"), "src", "capsbench").is_dir():
            return None  # installed inside some other repository
        commit = git("rev-parse", "HEAD")
        return commit + "+" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None
