"""Sweeps on a real Slurm of one node, as a user sees them at the terminal."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engines

CPU = ("trainer.accelerator=cpu", "gpus_per_run=0", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30")
TINY = ("data=digits", "data.subset=64", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
SWEEP = ("train", "-m", "launcher=slurm", *CPU)


@pytest.mark.parametrize("cluster", ["slurm", "slurm_without_accounting"])
def test_a_sweep_ends(cluster: str, request: Any, tmp_path: Path) -> None:
    ended = request.getfixturevalue(cluster).run(tmp_path, *SWEEP, *TINY, "seed=1,2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "2 of 2 runs are finished"
