"""What a sweep prints: at most two lines a run and five more, whatever trains it and wherever it is logged."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engines
SWEEP = ("train", "-m", "router=fm,dynamic", "seed=1,2", "trainer=smoke", "data.subset=64", "data.test_subset=32")
RUNS = 4
ENGINES = {
    "serial": [],
    "local": ["launcher=local"],
    "ray": ["launcher=ray", "hydra.launcher.ray.init.num_cpus=2", "trainer.accelerator=cpu"],
    "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=jobs/%j"],
    "wandb": ["logger=wandb", "launcher=local"],
    "wandb without an account": ["logger=wandb", "logger.wandb.mode=online"],
}


def lines(folder: Path, environment: Mapping[str, str], *arguments: str) -> list[str]:
    """What a sweep prints to either stream, to its successful end."""
    own = {key: value for key, value in environment.items() if not key.startswith(("WANDB_", "RAY_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "capsbench", *SWEEP, *arguments],
        cwd=folder,
        env={**own, "HOME": str(folder), "OMP_NUM_THREADS": "1", "WANDB_ERROR_REPORTING": "false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert len(list(folder.rglob("result.json"))) == RUNS
    return ended.stdout.splitlines()


@pytest.mark.parametrize("engine", ENGINES)
def test_two_lines_a_run_and_five_more(engine: str, tmp_path: Path) -> None:
    said = lines(tmp_path, os.environ, *ENGINES[engine])
    assert len(said) <= 2 * RUNS + 5, "\n".join(said)
    assert (
        said[-1] == f"{RUNS} of {RUNS} runs are finished" or engine == "ray"
    )  # its workers' lines come when they come
    if engine.startswith("wandb"):
        (told,) = [line for line in said if "Weights & Biases" in line]
        assert "wandb sync outputs/adhoc/digits/resnet_capsnet_small/*/*/wandb/offline-run-* uploads them" in told
        assert len(list(tmp_path.glob(told.split("wandb sync ")[1].split()[0]))) == RUNS
    if engine == "serial":
        again = lines(tmp_path, os.environ)
        assert len(again) <= RUNS + 5, "\n".join(again)


SLURM = ("launcher=slurm", "trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30")


def test_slurm_prints_as_little(slurm: Any, tmp_path: Path) -> None:
    said = lines(tmp_path, slurm.environment, *SLURM)
    assert len(said) <= 2 * RUNS + 5, "\n".join(said)
