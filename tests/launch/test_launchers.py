"""Sweeps through every launcher: real processes, and the results of a serial sweep."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import hydra
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.utils import instantiate

from capsbench.commands import cli
from capsbench.launch.config import CONF
from capsbench.launch.ray import enter_working_directory, gpus_per_run
from capsbench.runs import Result, RunFolder

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


def sweep(folder: Path, *arguments: str) -> Sweep:
    """Start a sweep as a user does, in a folder that is its own."""
    choice = folder / "conf" / "router" / "broken.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(BROKEN)
    environment = {**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "capsbench", "train", "-m", *RUNS, *arguments]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Sweep(folder / "outputs", ended)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(tmp_path_factory.mktemp("serial"), "launcher=serial")


@pytest.mark.engines
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
    other = sweep(tmp_path, *arguments)
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


@pytest.mark.engines
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


@pytest.mark.engines
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


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    for name, script in (("srun", "exit 0"), ("sbatch", f'cp "$1" {tmp_path}/asked; echo no queue here >&2; exit 1')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, "-m", "capsbench", "train", "-m", "launcher=slurm", "seed=1,2", "gpus_per_run=1"]
    command += ["trainer.accelerator=gpu", "hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=600"]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "error: no queue here"
    asked = {line.removeprefix("#SBATCH --") for line in (tmp_path / "asked").read_text().splitlines()}
    assert {"array=0-1%2", "gpus-per-node=1", "partition=gpu", "requeue", "signal=USR2@120", "time=600"} <= asked
    assert f"output={tmp_path}/outputs/slurm/%A_%a/%A_%a_0_log.out" in asked


@pytest.mark.parametrize("preset", ["local", "ray", "slurm"])
def test_a_missing_package_is_named(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance()  # they enter themselves into the store
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    package, extra = {"local": ("joblib", "joblib"), "ray": ("ray", "ray"), "slurm": ("submitit_slurm", "slurm")}[
        preset
    ]
    monkeypatch.delitem(launchers, f"{package}.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        cli.main(["train", "-m", f"launcher={preset}"])
    assert str(error.value) == (
        f"error: the launcher {package} needs a package that is not installed: pip install 'capsbench[{extra}]'"
    )


def test_a_gpu_or_a_fraction_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert gpus_per_run() == there
        assert gpus_per_run(devices=4) == 4 * there
        assert gpus_per_run(0.25) == 0.25
    for wrong in (-1, True):
        with pytest.raises(ValueError, match="gpus_per_run must be a number of at least 0"):
            gpus_per_run(wrong)


def test_ray_workers_stand_where_the_sweep_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", ["launcher=ray", "gpus_per_run=0.25"], return_hydra_config=True)
    launcher = instantiate(config.hydra.launcher)
    environment = launcher.ray_cfg.init.runtime_env
    assert launcher.ray_cfg.remote.num_gpus == 0.25
    assert environment.worker_process_setup_hook == f"{enter_working_directory.__module__}.enter_working_directory"
    monkeypatch.setenv("CAPSBENCH_WORKING_DIRECTORY", environment.env_vars.CAPSBENCH_WORKING_DIRECTORY)
    os.chdir("/")
    enter_working_directory()
    assert Path.cwd() == tmp_path
