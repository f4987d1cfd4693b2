"""One run that is killed, or told to stop, again and again at random moments."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.runs import Result, RunFolder

RUN = (
    *("train", "trainer.max_epochs=6", "data.subset=256", "data.test_subset=64", "data.batch_size=16"),
    *("decoder=dense", "optim=adam_cosine", "trainer.enable_progress_bar=false", "checkpoint_minutes=0"),
)
TIMES = 20
MOST = 3.0
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


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9(family: Any, uninterrupted: tuple[Any, ...], tally: Callable[..., None], seed: int) -> None:
    """kill -9 at random moments of a run: the same bits as without, weights, optimizer and metrics."""
    moments = random.Random(seed)
    kills, ends = 0, []
    while kills < TIMES:
        outputs = f"output_dir=outputs/{len(ends)}"
        process = family.start(*RUN, outputs)
        while not family.workers() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, MOST))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            kills += 1
        else:
            ends.append(process.returncode)
    assert family.start(*RUN, outputs).wait(300) == 0
    found = [bits(path) for path in (family.folder / "outputs").iterdir()]
    same = sum(each == uninterrupted for each in found)
    tally(kills, kills if same == len(found) else 0, f"{same} of {len(found)} runs with the same bits")
    assert same == len(found)
    assert ends == [0] * len(ends)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop(
    family: Any, uninterrupted: tuple[Any, ...], tally: Callable[..., None], number: signal.Signals
) -> None:
    """SIGTERM, SIGINT and SIGHUP at random moments of a command: one line, 128 + N, and the same bits in the end."""
    moments = random.Random(int(number))
    signals = told = finished = 0
    while signals < TIMES:
        outputs = f"output_dir=outputs/{finished}"
        process = family.start(*RUN, outputs)
        while not family.catches(process.pid, signal.SIGTERM):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 2 * MOST))
        process.send_signal(number)
        code, said = process.wait(60), family.said.read_text()
        if code == 0:
            finished += 1
            continue
        signals += 1
        told += code == 128 + number and said.count("\n") == 1 and f"interrupted by {number.name}" in said
    assert family.start(*RUN, outputs).wait(300) == 0
    found = [bits(path) for path in (family.folder / "outputs").iterdir()]
    same = sum(each == uninterrupted for each in found)
    tally(signals, told if same == len(found) else 0, f"{same} of {len(found)} runs with the same bits")
    assert (told, same) == (signals, len(found))
