"""What the launchers' presets ask for."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf

from capsbench.commands import cli
from capsbench.launch.config import CONF, open_configuration
from capsbench.launch.ray import enter_working_directory, gpus_per_run
from capsbench.launch.slurm import check_settings, gpus_of
from capsbench.launch.sweep import plan

GROUPS = ("launcher", "trainer")


PRESETS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}


@pytest.mark.parametrize("chosen", list(product(*PRESETS.values())), ids="-".join)
def test_presets_combine(chosen: tuple[str, ...]) -> None:
    overrides = ["logger=wandb", *(f"{group}={name}" for group, name in zip(GROUPS, chosen, strict=True))]
    with open_configuration() as loader:
        config = loader.load_configuration("train", overrides, run_mode=RunMode.MULTIRUN)
        assert OmegaConf.to_container(config.hydra.launcher, resolve=True)
        (run,) = plan(loader, [*overrides, "trainer.accelerator=cpu"])
    assert run.identity.settings["devices"]["number"] == 1


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    for name, script in (("srun", "exit 0"), ("sbatch", f'cp "$1" {tmp_path}/asked; echo no queue here >&2; exit 1')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, "-m", "capsbench", "train", "-m", "launcher=slurm", "seed=1,2", "trainer=ddp"]
    command += ["trainer.accelerator=gpu", "trainer.devices=4", "trainer.num_nodes=2"]
    command += ["hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=600"]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1].startswith("error: Slurm refuses the jobs: no queue here; ")
    script = (tmp_path / "asked").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in script}
    assert {"array=0-1%2", "gpus-per-node=4", "partition=gpu", "requeue", "signal=USR2@120", "time=600"} <= asked
    assert {"nodes=2", "ntasks-per-node=1"} <= asked
    assert any(line.startswith("srun ") and " --wait=60 " in line for line in script)
    assert f"output={tmp_path}/outputs/slurm/%A_%a/%A_%a_0_log.out" in asked


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        (("trainer.accelerator=cpu",), 0),
        (("trainer.accelerator=cpu", "trainer=ddp", "trainer.devices=2"), 0),
        (("trainer.accelerator=gpu",), 1),
        (("trainer.accelerator=gpu", "trainer=ddp", "trainer.devices=4"), 4),
        (("trainer.accelerator=gpu", "trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2"), 4),
    ],
)
def test_a_node_of_a_job_gets_a_gpu_for_each_device(asked: tuple[str, ...], gpus: int) -> None:
    with open_configuration() as loader:
        (run,) = plan(loader, ["launcher=slurm", *asked])
    assert gpus_of(run, "auto") == gpus
    assert gpus_of(run, 2) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"nodes": 2}, "hydra.launcher.nodes must be 1, got 2"),
        ({"tasks_per_node": 4}, "hydra.launcher.tasks_per_node must be 1, got 4"),
        ({"runs_per_job": 0}, "hydra.launcher.runs_per_job must be at least 1, got 0"),
        ({"gpus_per_run": 0.5}, "gpus_per_run must be auto or a whole number with launcher=slurm, got 0.5"),
    ],
)
def test_what_slurm_cannot_do_is_refused(wrong: dict[str, Any], told: str) -> None:
    with open_configuration() as loader:
        config = loader.load_configuration("train", ["launcher=slurm"], run_mode=RunMode.MULTIRUN)
    settings = {**config.hydra.launcher, "gpus_per_run": config.gpus_per_run}
    check_settings(settings, settings["gpus_per_run"])
    with pytest.raises(ValueError, match=told):
        check_settings(settings | wrong, (settings | wrong)["gpus_per_run"])


def test_a_job_of_several_nodes_trains_one_run() -> None:
    with open_configuration() as loader:
        config = loader.load_configuration("train", ["launcher=slurm"], run_mode=RunMode.MULTIRUN)
    with pytest.raises(ValueError, match=r"runs_per_job must be 1 with trainer\.num_nodes=2, got 8"):
        check_settings({**config.hydra.launcher, "runs_per_job": 8}, "auto", nodes=2)


@pytest.mark.parametrize(
    "launcher", [(), ("-m",), ("-m", "launcher=local"), ("-m", "launcher=ray"), ("-m", "hydra/launcher=submitit_local")]
)
def test_only_slurm_trains_a_run_on_several_nodes(launcher: tuple[str, ...], capsbench: Callable[..., Path]) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2")
    with pytest.raises(SystemExit, match=r"^error: trainer\.num_nodes=2 needs -m and launcher=slurm") as error:
        capsbench("train", *launcher, *two)
    assert error.value.code == 2
    assert not list(Path("outputs").rglob("config.yaml"))


def test_a_job_needs_time_to_save(capsbench: Callable[..., Path]) -> None:
    limit = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=120")
    told = r"signal_delay_s=120 must be less than hydra\.launcher\.timeout_min=2, which is 120 s"
    with pytest.raises(SystemExit, match=told) as error:
        capsbench("train", "-m", "launcher=slurm", "trainer.accelerator=cpu", *limit)
    assert error.value.code == 2
    assert not list(Path("outputs").rglob("job.json"))


@pytest.mark.parametrize("launcher", ["local", "ray", "slurm"])
def test_a_launcher_needs_a_sweep(launcher: str, capsbench: Callable[..., Path]) -> None:
    with pytest.raises(SystemExit, match="would be trained here: add -m, also for one run") as error:
        capsbench("train", f"launcher={launcher}", "trainer.accelerator=cpu")
    assert error.value.code == 2
    assert not Path("outputs").exists()


def test_one_process_within_a_job_of_several_tasks(
    capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "4", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    outputs = capsbench("train", "data.subset=64", "trainer=smoke", "trainer.enable_progress_bar=false")
    (result,) = outputs.rglob("result.json")
    capsbench("evaluate", f"run={result.parent}", "split=test")
    assert result.with_name("evaluation-test.json").is_file()


@pytest.mark.parametrize("preset", ["local", "ray", "slurm"])
def test_a_missing_package_is_named(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance()  # they enter themselves into the store
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    package, extra = {
        "local": ("joblib", "joblib"),
        "ray": ("capsbench_ray", "ray"),
        "slurm": ("capsbench_slurm", "slurm"),
    }[preset]
    monkeypatch.delitem(launchers, f"{package}.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        cli.main(["train", "-m", f"launcher={preset}"])
    assert str(error.value) == (
        f"error: the launcher {package} needs a package that is not installed: pip install 'capsbench[{extra}]'"
    )


def test_gpus_of_a_run_with_ray_follow_from_its_own_devices() -> None:
    """Not from those of the machine where the command is given."""
    for number in (1, 4):
        assert gpus_per_run(None, {"kind": "gpu", "number": number}) == number
        assert gpus_per_run(None, {"kind": "cpu", "number": number}) == 0
        assert gpus_per_run(0.25, {"kind": "gpu", "number": number}) == 0.25
    for wrong in (-1, True):
        with pytest.raises(ValueError, match="gpus_per_run must be a number of at least 0"):
            gpus_per_run(wrong, {"kind": "gpu", "number": 1})


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
