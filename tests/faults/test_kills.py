"""One run that is killed, or told to stop, again and again at random moments."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.runs import Result, RunFolder
from capsbench.signals import SIGNALS

RUN = (
    *("train", "trainer.max_epochs=4", "data.subset=160", "data.test_subset=64", "data.batch_size=16"),
    *("optim=adam_cosine", "trainer.enable_progress_bar=false", "checkpoint_minutes=0"),
)
TIMES = 20
LAST = SIGNALS[-1]
"""When this one is handled, all are."""
MOST = 2.0
"""Seconds after a run has begun until which it is killed."""

pytestmark = pytest.mark.faults


def bits(outputs: Path) -> tuple[Any, ...]:
    """Everything that a run ends with, but for speeds."""
    (path,) = outputs.rglob("result.json")
    result = Result.load(path.parent)
    state = torch.load(RunFolder(path.parent).weights, weights_only=True)
    moments = [value for entry in state["optimizer_states"][0]["state"].values() for value in entry.values()]
    metrics = {name: value for name, value in result.metrics.items() if "per_" not in name}
    weights = {name: tensor.numpy().tobytes() for name, tensor in state["state_dict"].items()}
    return metrics, list(result.history), result.steps, weights, [moment.numpy().tobytes() for moment in moments]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, families: Callable[[Path], Any]) -> tuple[Any, ...]:
    family = families(tmp_path_factory.mktemp("uninterrupted"))
    assert family.start(*RUN).wait(300) == 0
    return bits(family.folder)


def finish(family: Any, outputs: str, uninterrupted: tuple[Any, ...]) -> tuple[int, int]:
    """Let the last run come to its end; how many runs there are, and how many have the same bits."""
    last = family.fork(*RUN, outputs)
    last.join(300)
    assert last.exitcode == 0, family.said.read_text()
    found = [bits(path) for path in (family.folder / "outputs").iterdir()]
    return len(found), sum(each == uninterrupted for each in found)


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9(family: Any, uninterrupted: tuple[Any, ...], tally: Callable[..., None], seed: int) -> None:
    """kill -9 at random moments of a run: the same bits as without, weights, optimizer and metrics."""
    moments = random.Random(seed)
    kills, ended = 0, 0
    while kills < TIMES:
        outputs = f"output_dir=outputs/{ended}"
        process = family.fork(*RUN, outputs)
        while not family.workers() and process.is_alive():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, MOST))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        ended += process.exitcode == 0
        assert process.exitcode in (0, -signal.SIGKILL), family.said.read_text()
    runs, same = finish(family, outputs, uninterrupted)
    tally(kills, kills if same == runs else 0, f"{same} of {runs} runs with the same bits")
    assert same == runs


@pytest.mark.parametrize("number", SIGNALS)
def test_told_to_stop(
    family: Any, uninterrupted: tuple[Any, ...], tally: Callable[..., None], number: signal.Signals
) -> None:
    """SIGTERM, SIGINT and SIGHUP at random moments of a command: one line, 128 + N, and the same bits in the end."""
    moments = random.Random(int(number))
    stops = told = ended = 0
    while stops < TIMES:
        outputs = f"output_dir=outputs/{ended}"
        process = family.fork(*RUN, outputs)
        while not family.catches(process.pid, LAST):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, MOST))
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(process.pid, number)
        process.join(60)
        if process.exitcode == 0:
            ended += 1
            continue
        stops += 1
        told += process.exitcode == 128 + number and is_one_line(family.said.read_text(), number)
    runs, same = finish(family, outputs, uninterrupted)
    tally(stops, told if same == runs else 0, f"{same} of {runs} runs with the same bits")
    assert (told, same) == (stops, runs)


@pytest.mark.parametrize("number", SIGNALS)
def test_told_to_stop_in_imports(family: Any, tally: Callable[..., None], number: signal.Signals) -> None:
    """SIGTERM, SIGINT and SIGHUP at random moments of the imports: one line and 128 + N."""
    moments = random.Random(int(number))
    other = []
    for _ in range(TIMES):
        process = family.start(*RUN)
        while not family.catches(process.pid, LAST):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 2))
        process.send_signal(number)
        code, said = process.wait(60), family.said.read_text()
        if code != 128 + number or not is_one_line(said, number):
            other.append((code, said))
    tally(TIMES, TIMES - len(other))
    assert other == []


def is_one_line(said: str, number: signal.Signals) -> bool:
    return said.count("\n") == 1 and f"interrupted by {number.name}" in said
