"""`capsbench cancel` where the runs are trained by processes of this machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capsbench.runs import RunFolder

pytestmark = pytest.mark.engines

COMMAND = (sys.executable, "-m", "capsbench")
RUNS = ("data=digits", "data.subset=320", "data.batch_size=16", "trainer.max_epochs=500", "checkpoint_minutes=0.05")
RUNS += ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "seed=1,2,3")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.mark.parametrize("launcher", ["serial", "local"])
def test_a_sweep_of_this_machine_saves_and_ends(launcher: str, tmp_path: Path) -> None:
    train = subprocess.Popen(
        [*COMMAND, "train", "-m", *RUNS, f"launcher={launcher}"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    at_once = 2 if launcher == "local" else 1
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("resume.ckpt"))) < at_once and time.monotonic() < deadline:
        time.sleep(0.5)
    ended = run(tmp_path, "cancel", *RUNS)
    assert ended.returncode == 0, ended.stderr
    *lines, last = ended.stdout.splitlines()
    assert len(lines) == at_once
    assert all(line.endswith("saved and ended") for line in lines)
    assert last == f"{at_once} of 3 runs were ended; capsbench train -m with these settings continues them"
    assert train.wait(timeout=60) != 0
    folders = [RunFolder(tmp_path / line.partition(":")[0]) for line in lines]
    assert all(folder.resume.is_file() and not folder.is_locked for folder in folders)
    states = json.loads(run(tmp_path, "status", *RUNS, "--json").stdout)
    assert [each["state"] for each in states].count("interrupted") == at_once
