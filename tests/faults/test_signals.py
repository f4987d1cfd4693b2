"""Signals at every stage of a command: one line, 128 + the signal's number, and the same command continues."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.commands import train
from capsbench.data import Digits
from capsbench.runs import Result, RunFolder, State
from capsbench.signals import SIGNALS

pytestmark = pytest.mark.engines

RUN = ("train", "trainer=smoke", "data.subset=16", "data.test_subset=16", "trainer.enable_progress_bar=false")
train_and_test = importlib.import_module("capsbench.runs.train_and_test")

Command = Callable[..., Path]


def signalled(
    place: Any, name: str, *numbers: signal.Signals, before: bool = True
) -> Callable[[pytest.MonkeyPatch], None]:
    """Let signals fall where a function is called."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(place, name)

        def function(*arguments: Any, **options: Any) -> Any:
            returned = None if before else original(*arguments, **options)
            for number in numbers:
                os.kill(os.getpid(), number)
            return original(*arguments, **options) if before else returned

        monkeypatch.setattr(place, name, function)

    return patch


STAGES = {
    "composing": (train.Composer, "compose"),
    "reading data": (Digits, "load"),
    "a training step": (Digits, "train_images"),
    "the test": (train_and_test, "evaluate"),
    "pictures": (train_and_test, "write_pictures"),
    "latency": (train_and_test, "inference_ms"),
    "writing the result": (Result, "save"),
    "clearing up": (RunFolder, "remove_leftovers"),
}


@pytest.mark.parametrize(
    ("stage", "number"),
    [(stage, signal.SIGTERM) for stage in STAGES]
    + [("composing", signal.SIGINT), ("a training step", signal.SIGHUP), ("latency", signal.SIGHUP)],
)
def test_a_signal_is_told_and_the_command_continues(
    capsbench: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    number: signal.Signals,
) -> None:
    """A signal while a run composes, reads, trains, measures, draws or writes: it is told, and the run continues."""
    before = [signal.getsignal(each) for each in SIGNALS]
    with monkeypatch.context() as patch:
        signalled(*STAGES[stage], number)(patch)
        with pytest.raises(SystemExit) as stopped:
            capsbench(*RUN, "decoder=dense")
    assert stopped.value.code == 128 + number
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("error: ")] == told[-1:]
    assert f"interrupted by {number.name}" in told[-1]
    assert [signal.getsignal(each) for each in SIGNALS] == before
    for config in Path("outputs").rglob("config.yaml"):
        assert State.of(RunFolder(config.parent)).name in ("interrupted", "done")
        assert State.of(RunFolder(config.parent)).cause is None
    outputs = capsbench(*RUN, "decoder=dense")
    assert len(list(outputs.rglob("result.json"))) == 1
    assert not [*outputs.rglob("*.tmp"), *outputs.rglob("resume.ckpt"), *outputs.rglob("session.json")]


def test_a_signal_that_is_ignored_stays_ignored(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP under nohup: it is ignored, and the run ends as usual."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signalled(Digits, "train_images", signal.SIGHUP)(monkeypatch)
        signalled(train_and_test, "inference_ms", signal.SIGHUP)(monkeypatch)
        outputs = capsbench(*RUN)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(list(outputs.rglob("result.json"))) == 1


def test_a_second_signal_is_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    """A second signal before the run has saved: it ends at once, and status says that a signal came."""
    program = f"""
import os, signal, sys
from capsbench.commands import cli
from capsbench.data import Digits
def train_images(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
Digits.train_images = train_images
cli.main({[*RUN]!r})
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + signal.SIGINT
    assert ended.stderr.splitlines()[-1] == "error: ended at once by a second signal, SIGINT"
    (config,) = tmp_path.rglob("config.yaml")
    state = State.of(RunFolder(config.parent))
    assert state.name == "interrupted"
    assert (state.cause or "").endswith("was told to stop by SIGTERM and ended before it had saved")


def test_the_runs_of_a_sweep_that_are_left_are_counted(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal between two runs of a sweep: one line says how many runs are left."""
    with monkeypatch.context() as patch:
        signalled(train, "_report", signal.SIGHUP, before=False)(patch)
        with pytest.raises(SystemExit) as stopped:
            capsbench(*RUN, "-m", "seed=1,2,3")
    assert stopped.value.code == 128 + signal.SIGHUP
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: interrupted by SIGHUP: 2 of 3 runs are not finished; the same command continues them"
    )
    assert len(list(capsbench(*RUN, "-m", "seed=1,2,3").rglob("result.json"))) == 3


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_imports_is_told(family: Any, number: signal.Signals) -> None:
    """A signal while the command imports: a line and no traceback."""
    process = family.start(*RUN)
    while not family.catches(process.pid, signal.SIGHUP):
        time.sleep(0.001)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert family.said.read_text() == f"error: interrupted by {number.name}\n"
