"""What the launchers' presets ask for."""

import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.utils import instantiate

from capsbench.commands import cli
from capsbench.launch.config import CONF
from capsbench.launch.ray import enter_working_directory, gpus_per_run


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
