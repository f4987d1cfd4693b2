"""Processes that train for another one: they save and end with it."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import RunFolder, State

ENDLESS = (
    *("train", "trainer.max_epochs=10000", "trainer.enable_progress_bar=false", "checkpoint_minutes=60"),
    *("data.subset=640", "data.batch_size=8"),
)
SWEEP = (*ENDLESS, "-m", "launcher=local", "seed=1,2,3,4")
DDP = (*ENDLESS, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


def wait(until: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def training(folder: Path, runs: int) -> Callable[[], bool]:
    """Whether so many runs have trained a while."""
    return lambda: len(list(folder.rglob("progress.json"))) == runs


@pytest.mark.engines
@pytest.mark.parametrize("command", [SWEEP, DDP], ids=["sweep", "ddp"])
def test_workers_end_with_their_parent(family: Any, command: tuple[str, ...]) -> None:
    """kill -9 for the parent of a sweep in several processes, or of a run on several devices: they save and end."""
    parent = family.start(*command)
    runs = 2 if command is SWEEP else 1
    wait(training(family.folder, runs))
    time.sleep(1)
    parent.kill()
    parent.wait()
    assert family.ends_within(5), family.said.read_text()
    assert len(list(family.folder.rglob("resume.ckpt"))) == runs
    assert "Traceback" not in family.said.read_text()
    for config in family.folder.rglob("config.yaml"):
        assert State.of(RunFolder(config.parent)).name == "interrupted"


@pytest.mark.engines
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_parent_reaches_its_workers(family: Any, number: signal.Signals) -> None:
    """A signal to the parent of a sweep in several processes: all save, and it says how many runs are left."""
    parent = family.start(*SWEEP)
    wait(training(family.folder, 2))
    parent.send_signal(number)
    assert parent.wait(60) == 128 + number
    assert family.ends_within(5)
    assert len(list(family.folder.rglob("resume.ckpt"))) == 2
    assert not list(family.folder.rglob("session.json"))
    said = family.said.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1] == (
        f"error: interrupted by {number.name}: 4 of 4 runs are not finished; the same command continues them"
    )


@pytest.mark.engines
def test_a_signal_to_a_worker_stops_the_sweep(family: Any) -> None:
    """SIGTERM to one worker of a sweep: all of its workers save, and the sweep ends."""
    parent = family.start(*SWEEP)
    wait(training(family.folder, 2))
    os.kill(min(family.workers()), signal.SIGTERM)
    assert parent.wait(60) == 128 + signal.SIGTERM
    assert family.ends_within(5)
    assert len(list(family.folder.rglob("resume.ckpt"))) == 2
    assert not list(family.folder.rglob("session.json"))


@pytest.mark.engines
def test_a_signal_to_all_is_one(family: Any) -> None:
    """Ctrl-C, which a terminal sends to the parent of a sweep and its workers at once: all save."""
    parent = family.start(*SWEEP)
    wait(training(family.folder, 2))
    for worker in family.workers():
        os.kill(worker, signal.SIGINT)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(60) == 128 + signal.SIGINT
    assert family.ends_within(5)
    assert len(list(family.folder.rglob("resume.ckpt"))) == 2
    assert not list(family.folder.rglob("session.json"))


@pytest.mark.faults
def test_a_host_whose_name_is_unknown(capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose name does not resolve: a run on several devices trains there, too."""
    for name in ("gethostname", "getfqdn"):
        monkeypatch.setattr(socket, name, lambda *_: "nowhere.invalid")
    outputs = capsbench("train", "trainer=smoke", "data.subset=16", *DDP[-3:], "trainer.limit_train_batches=2")
    assert len(list(outputs.rglob("result.json"))) == 1
