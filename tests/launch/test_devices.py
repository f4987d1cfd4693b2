"""Kind and number of devices decide what a run is."""

from pathlib import Path

import pytest
import torch

from capsbench.launch import devices, sweep
from capsbench.launch.config import open_configuration
from capsbench.runs import Identity

DDP = ("trainer=ddp",)


def planned(*overrides: str) -> Identity:
    with open_configuration() as loader:
        (run,) = sweep.plan(loader, overrides)
    return run.identity


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs."""
    monkeypatch.setattr(devices, "best_kind", lambda: "gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "best_kind", lambda: "cpu")


CPU = "8efd2c45"
"""The digest of `capsbench train` on one CPU since version 2."""


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "asked",
    [
        (),
        ("trainer.accelerator=cpu",),
        DDP,
        (*DDP, "trainer.devices=1"),
        (*DDP, "trainer.devices=-1", "trainer.accelerator=cpu"),
        ("+gpus_per_run=0",),
        ("launcher=ray", "wait=true"),
    ],
    ids=" ".join,
)
def test_one_cpu_is_the_run_that_it_was(asked: tuple[str, ...]) -> None:
    assert planned(*asked).digest == CPU


@pytest.mark.usefixtures("gpus")
def test_auto_is_what_this_machine_has() -> None:
    found = [planned(*asked).settings["devices"] for asked in ((), ("trainer.accelerator=cpu",), DDP)]
    assert found == [{"kind": "gpu", "number": 1}, {"kind": "cpu", "number": 1}, {"kind": "gpu", "number": 2}]


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_can_plan_for_one_that_has_some() -> None:
    there = planned("trainer.accelerator=gpu")
    assert there.settings["devices"] == {"kind": "gpu", "number": 1}
    assert there == planned("trainer.accelerator=cuda")


@pytest.mark.usefixtures("gpus")
def test_kinds_and_numbers_are_other_runs() -> None:
    asked = [(), ("trainer.accelerator=cpu",), DDP, (*DDP, "trainer.devices=4")]
    asked += [(*DDP, "trainer.accelerator=cpu", "trainer.devices=2"), (*DDP, "trainer.sync_batchnorm=false")]
    asked += [(*DDP, "trainer.strategy=fsdp")]
    assert len({planned(*each).digest for each in asked}) == len(asked)
    assert planned(*DDP).digest == planned(*DDP, "trainer.devices=2").digest


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("asked", [("launcher=slurm",), ("launcher=ray", "gpus_per_run=0.5")], ids=" ".join)
def test_where_a_gpu_is_asked_for_and_none_is_here_the_kind_must_be_told(asked: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"this machine has none .*; set trainer.accelerator=gpu, or .*=cpu"):
        planned(*asked)
    assert planned(*asked, "trainer.accelerator=gpu").settings["devices"]["kind"] == "gpu"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wrong", ["0", "[0]", "1.5", "true", "many"])
def test_a_number_of_devices_that_is_none(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"trainer\.devices must be a number of at least 1, or auto"):
        planned(*DDP, f"trainer.devices={wrong}")


def test_devices_of_all_nodes_count() -> None:
    cpus = (*DDP, "trainer.accelerator=cpu")
    two = planned(*cpus, "trainer.devices=2")
    assert two.digest == planned(*cpus, "trainer.devices=2", "trainer.num_nodes=1").digest == "c43886f9"
    assert two.digest == planned(*cpus, "trainer.num_nodes=2").digest
    assert planned(*cpus, "trainer.num_nodes=2", "trainer.devices=4").settings["devices"]["number"] == 8


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((*DDP, "trainer.num_nodes=0"), r"trainer\.num_nodes must be a whole number of at least 1, got 0"),
        ((*DDP, "trainer.num_nodes=1.5"), r"trainer\.num_nodes must be a whole number"),
        (("+trainer.num_nodes=2",), r"trainer\.num_nodes=2 needs trainer=ddp"),
    ],
)
def test_a_number_of_nodes_that_is_none(asked: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        planned("trainer.accelerator=cpu", *asked)


@pytest.mark.usefixtures("no_gpu")
def test_workers_elsewhere_are_told_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have other devices; with these words they find the planned folder."""
    monkeypatch.chdir(tmp_path)

    class Elsewhere:
        def launch(self, jobs: list[list[str]], initial_job_idx: int) -> list[object]:
            self.jobs = jobs
            return []

    launcher = Elsewhere()
    with open_configuration() as loader:
        runs = sweep.plan(loader, ["seed=1,2"])
    with pytest.raises(SystemExit):
        sweep.Sweep(runs).launch(launcher, None)
    assert launcher.jobs == [[f"seed={n}", "trainer.accelerator=cpu", "trainer.devices=1"] for n in (1, 2)]
    monkeypatch.setattr(devices, "best_kind", lambda: "gpu")
    assert [planned(*job).digest for job in launcher.jobs] == [run.identity.digest for run in runs]
