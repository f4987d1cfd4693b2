"""A grid of 200 runs in several processes, whose processes are killed."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNS, KILLS = 200, 20
GRID = (
    *("train", "-m", "launcher=local", f"seed=range(1,{RUNS + 1})", "trainer=smoke", "data.batch_size=8"),
    *("data.subset=16", "data.test_subset=16", "trainer.enable_progress_bar=false"),
)
GROWTH_MB = 30
"""By how much the parent's memory may grow from its tenth run to its last but one."""

pytestmark = pytest.mark.faults


def results(folder: Path) -> dict[Path, tuple[int, int]]:
    """The results there are, each with what changes if it is written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("result.json")}


def memory_mb(process: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_a_grid_under_kills(family: Any, tally: Callable[..., None]) -> None:
    """kill -9 and SIGTERM for workers and parents of a grid of 200 runs: 200 results, each written once, nothing left
    running after 10 s, the parent's memory flat."""
    chance = random.Random(0)
    kills, left, again, before = 0, 0, 0, {}
    while kills < KILLS:
        parent = family.start(*GRID)
        while len(results(family.folder)) == len(before) and parent.poll() is None:
            time.sleep(0.05)  # imports take longer than a run
        time.sleep(chance.uniform(0, 0.5))
        assert parent.poll() is None, f"it ended before it was killed: {family.said.read_text()}"
        workers = family.workers()
        victim = chance.choice(sorted(workers)) if workers and kills % 2 else parent.pid
        number = chance.choice([signal.SIGKILL, signal.SIGTERM])
        try:
            os.kill(victim, number)
        except ProcessLookupError:  # a worker that has ended meanwhile
            os.kill(parent.pid, number)
        kills += 1
        assert parent.wait(60) != 0
        left += not family.ends_within(10)
        after = results(family.folder)
        again += sum(after.get(path) != written for path, written in before.items())
        before = after
    assert len(before) < RUNS, "the grid was finished before all kills"
    parent = family.start(*GRID)
    seen = []
    while parent.poll() is None:
        seen.append((len(results(family.folder)) - len(before), memory_mb(parent.pid)))
        time.sleep(0.5)
    settled = [memory for runs, memory in seen if 10 <= runs < RUNS - len(before)]  # at the end it reads all results
    growth = max(settled) - settled[0]
    after = results(family.folder)
    again += sum(after.get(path) != written for path, written in before.items())
    tally(kills, kills - left - again, f"{len(after)} results, {left} left running, {growth:.0f} MB more memory")
    assert parent.returncode == 0, family.said.read_text()
    assert (len(after), again, left) == (RUNS, 0, 0)
    assert growth < GROWTH_MB
