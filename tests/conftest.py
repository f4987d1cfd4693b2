"""Shared by all tests."""

import gc
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from capsbench.launch.noise import HARMLESS
from capsbench.launch.threads import let_threads_sleep

let_threads_sleep()
import torch  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report to a network, also after the tests
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are defined


def pytest_configure(config: pytest.Config) -> None:
    """Hide in tests what a run hides from its user, and heed signals also under nohup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for message in HARMLESS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections: statsmodels asks for one at each adjusted p."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of real data and golden numbers, which users do not have."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which developers and CI have")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In place of the user's cache directory."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_path", lambda name: folder / name)
        yield folder


@pytest.fixture
def capsbench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Run a command in this process, in an empty folder; returns its output folder."""
    from capsbench.commands import cli  # not before shapes are checked on import
    from capsbench.training import inference_ms

    once = partial(inference_ms, repetitions=1, warm_up=0)  # the median of ten takes longer than most runs here
    monkeypatch.setattr("capsbench.runs.train_and_test.inference_ms", once)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAPSBENCH_DATA", raising=False)

    def run(*arguments: str) -> Path:
        cli.main(list(arguments))
        return tmp_path / "outputs"

    return run


@pytest.fixture(scope="session")
def read_wandb() -> Callable[[Path], dict[Path, list[Any]]]:
    """Read the records of all offline files of wandb below a folder, once its own process has written them."""
    from wandb.proto.wandb_internal_pb2 import Record

    def records(path: Path) -> Iterator[Record]:
        """After 7 bytes of heading, LevelDB's log of protobuf records in blocks of 32 KiB."""
        data, at, whole = path.read_bytes(), 7, b""
        assert data[:4] == b":W&B"
        while at + 7 <= len(data):
            left = 32768 - at % 32768
            if left < 7:
                at += left
                continue
            _, length, kind = struct.unpack_from("<IHB", data, at)
            if at + 7 + length > len(data):
                return  # it is being written
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # a whole record, or the last part of one
                yield Record.FromString(whole)
                whole = b""

    def read(folder: Path) -> dict[Path, list[Record]]:
        found = {}
        for path in sorted(folder.rglob("offline-run-*/*.wandb")):
            deadline = time.monotonic() + 60
            while not any(record.HasField("exit") for record in records(path)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            found[path] = list(records(path))
        return found

    return read
