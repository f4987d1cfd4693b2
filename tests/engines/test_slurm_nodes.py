"""One run over two nodes of a real Slurm: stopped in every way, it ends with the bits of two processes on one node."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.runs import Result, RunFolder, State

pytestmark = pytest.mark.engines

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
RUN = (
    *("--config-dir", "conf", "router=faulty", "data=digits", "data.subset=88", "data.batch_size=16"),
    *("trainer.max_epochs=2", "trainer.enable_progress_bar=false", "checkpoint_minutes=0"),
)
JOB = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30")
FAULTY = '''
import os
import signal
import time
from pathlib import Path

from capsbench import signals
from capsbench.routing import DynamicRouting


class Faulty(DynamicRouting):
    """Rank 1 is killed, or waits for a signal, where there is a file that says so."""

    calls = 0

    def route(self, votes, activations=None):
        self.calls += self.training
        if self.calls > 2 and os.environ["RANK"] == "1":
            if Path("kill").exists():
                Path("kill").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if Path("wait").exists():
                Path("wait").rename("waits")
                while signals.received() is None:
                    time.sleep(0.05)
        return super().route(votes, activations)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a router that can be stopped in training."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    choice = tmp_path / "conf" / "router" / "faulty.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: faulty.Faulty\n_partial_: true\niterations: 2\n")
    return tmp_path


def what_counts(outputs: Path) -> tuple[Any, ...]:
    (path,) = outputs.rglob("result.json")
    result = Result.load(path.parent)
    metrics = {name: value for name, value in result.metrics.items() if "per_" not in name}
    weights = torch.load(RunFolder(path.parent).weights, weights_only=True)["state_dict"]
    return path.parent.name, metrics, list(result.history), {name: tensor.tolist() for name, tensor in weights.items()}


def test_a_run_over_two_nodes(start_slurm: Callable[..., Any], folder: Path) -> None:
    slurm = start_slurm(ACCOUNTING="0", NODES="2")
    slurm.environment["COLUMNS"] = "300"
    section = PAGE.read_text().partition("### Several nodes")[2].partition("```sh")[2].partition("```")[0]
    (asked,) = (line.partition("#")[0].split()[3:] for line in section.splitlines() if "accelerator=cpu" in line)
    settings = (*asked, *RUN)
    train = ("train", "-m", *settings, *JOB)
    said = folder / "stdout"

    def wait(command: subprocess.Popen[bytes], until: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 120
        while not until():
            assert time.monotonic() < deadline, said.read_text()
            assert command.poll() is None, (folder / "stderr").read_text()
            time.sleep(0.1)

    one = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "output_dir=one_node")
    ended = slurm.run(folder, "train", "-m", "launcher=slurm", *one, *RUN, *JOB)
    assert ended.returncode == 0, ended.stderr

    (folder / "kill").touch()
    ended = slurm.run(folder, *train)
    assert (ended.returncode, (folder / "kill").exists()) == (1, False)
    why = "a process of the run was killed (often out of memory); the same command continues it"
    (config,) = (folder / "outputs").rglob("config.yaml")
    state = State.of(RunFolder(config.parent))
    assert (state.name, state.cause) == ("interrupted", why)
    assert ended.stderr.splitlines()[0] == f"interrupted: {config.parent.relative_to(folder)}: {why}"

    (folder / "wait").touch()
    command = slurm.popen(folder, *train)
    wait(command, (folder / "waits").exists)
    nodes = ",".join(slurm.tell("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N").split())
    assert f"running on {nodes} (job " in slurm.run(folder, "status", *settings).stdout
    slurm.tell("sbatch", "--partition=urgent", "--nodes=2", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
    assert command.wait(120) == 0, (folder / "stderr").read_text()
    begin, resumed, again, accuracy, end = said.read_text().splitlines()
    assert begin.startswith("submitted a job, ")
    assert f": resumed on {nodes}, job " in resumed
    assert f": preempted, requeued, resumed on {nodes}, job " in again
    assert "test accuracy" in accuracy
    assert end == "1 of 1 runs are finished"
    assert what_counts(folder / "outputs") == what_counts(folder / "one_node")
