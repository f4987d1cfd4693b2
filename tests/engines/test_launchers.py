"""Sweeps through every launcher: real processes, and the results of a serial sweep."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from capsbench.runs import Result, RunFolder

pytestmark = pytest.mark.engines

SPEEDS = {"train/images_per_second", "inference/ms_per_batch"}
RUNS = (
    *("--config-dir", "conf", "router=fm,dynamic,broken"),
    *("data=digits", "data.subset=64", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
)
BROKEN = "_target_: capsbench.routing.DynamicRouting\n_partial_: true\nnum_parents: 3"


class Sweep(NamedTuple):
    outputs: Path
    ended: subprocess.CompletedProcess[str]

    @property
    def runs(self) -> dict[str, Path]:
        """The folders of finished runs, by their path below the outputs."""
        return {str(path.parent.relative_to(self.outputs)): path.parent for path in self.outputs.rglob("result.json")}


def sweep(folder: Path, *arguments: str, variables: Mapping[str, str] = os.environ) -> Sweep:
    """Start a sweep as a user does, in a folder that is its own."""
    choice = folder / "conf" / "router" / "broken.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(BROKEN)
    environment = {**variables, "HOME": str(folder), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "capsbench", "train", "-m", *RUNS, *arguments]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Sweep(folder / "outputs", ended)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(tmp_path_factory.mktemp("serial"), "launcher=serial")


@pytest.mark.parametrize(
    "arguments",
    [
        ["launcher=local"],
        [
            *("launcher=ray", "hydra.launcher.ray.init.num_cpus=2"),
            *("gpus_per_run=0.5", "trainer.accelerator=cpu"),
            "+hydra.launcher.ray.init.num_gpus=1",  # Ray believes what it is told
        ],
        ["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=slurm/%j"],
    ],
    ids=["joblib", "ray", "submitit"],
)
def test_other_processes_find_the_same(serial: Sweep, tmp_path: Path, arguments: list[str]) -> None:
    check_same(serial, sweep(tmp_path, *arguments))


def test_jobs_of_slurm_find_the_same(serial: Sweep, slurm: Any, tmp_path: Path) -> None:
    asked = ("launcher=slurm", "trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=1")
    check_same(serial, sweep(tmp_path, *asked, "hydra.launcher.timeout_min=30", variables=slurm.environment))


def check_same(serial: Sweep, other: Sweep) -> None:
    assert len(serial.runs) == 2
    assert other.runs.keys() == serial.runs.keys(), other.ended.stderr
    for name, folder in other.runs.items():
        ours, theirs = Result.load(folder), Result.load(serial.runs[name])
        assert without_speeds(ours.metrics) == without_speeds(theirs.metrics)
        assert [without_speeds(epoch) for epoch in ours.history] == [without_speeds(epoch) for epoch in theirs.history]
        weights = [
            torch.load(RunFolder(at).weights, weights_only=True)["state_dict"] for at in (folder, serial.runs[name])
        ]
        assert weights[0].keys() == weights[1].keys()
        assert all(first.equal(second) for first, second in zip(*(w.values() for w in weights), strict=True))
    said = [run.ended.stderr.strip().splitlines()[-2:] for run in (serial, other)]
    assert said[0] == said[1]
    assert said[0][0].endswith("router.num_parents follows from the router's place in the network; leave it out")
    assert said[0][1].startswith("error: 1 of 3 runs failed")
    assert other.ended.returncode == serial.ended.returncode == 1
    assert len(list(other.outputs.rglob("stopped.txt"))) == 1
    assert not list(other.outputs.rglob("error.txt"))


def test_a_killed_worker_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    deadly = tmp_path / "conf" / "router" / "broken.yaml"
    deadly.parent.mkdir(parents=True)
    deadly.write_text("_target_: os._exit\n_args_: [9]")
    command = [sys.executable, "-m", "capsbench", "train", "-m", *RUNS[:2], "router=broken,fm,dynamic", *RUNS[3:]]
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    ended = start("launcher=local")
    assert ended.returncode == 1
    said = ended.stderr.splitlines()
    assert said[-1].startswith("error: a worker process was killed (often out of memory)")
    assert "the same command continues them" in said[-1]
    (told,) = (line for line in said if "/broken/" in line)
    assert told.startswith("interrupted: outputs/")
    assert told.endswith("was killed, perhaps out of memory")
    deadly.write_text(BROKEN.replace("num_parents: 3", "iterations: 2"))
    assert start("launcher=serial").returncode == 0


def without_speeds(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in SPEEDS}


def test_a_preempted_job_goes_back_into_the_queue_and_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "capsbench",
        "train",
        "-m",
        "hydra/launcher=submitit_local",
        "checkpoint_minutes=0",
    ]
    command += ["trainer.max_epochs=3", "data.subset=320", "data.batch_size=16", "trainer.enable_progress_bar=false"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("resume.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (log,) = tmp_path.rglob("*_log.out")
    controller = log.parent.name  # submitit numbers local jobs by the process that looks after them
    (job,) = Path("/proc", controller, "task", controller, "children").read_text().split()
    os.kill(int(job), signal.SIGUSR2)  # as Slurm tells of a preemption
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    said = log.read_text()
    assert said.index(": training") < said.index("Requeued job") < said.index(": resumed")
    assert len(list(tmp_path.rglob("result.json"))) == 1
