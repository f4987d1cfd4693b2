"""Sweeps on a running Ray cluster of several nodes, whose workers stand in another folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="launcher=ray needs Ray: pip install 'capsbench[ray]'")
pytestmark = pytest.mark.engines

CLUSTER = """
import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
cluster.add_node(num_cpus=2, num_gpus=1)
print(cluster.address, flush=True)
for word in sys.stdin:
    if word == "grow\\n":
        cluster.add_node(num_cpus=3)
    if word == "end\\n":
        break
cluster.shutdown()
"""
"""The head has no GPU; another node pretends to have one. A node more comes when it is told to grow."""
MINE = """
import os
from pathlib import Path

from capsbench.routing import DynamicRouting


class Mine(DynamicRouting):
    def __init__(self, **settings):
        super().__init__(**settings)
        Path("seen").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
"""
SHORT = ("data.subset=64", "data.test_subset=32", "trainer.max_epochs=1", "router=mine")
ENDLESS = ("data.subset=640", "data.batch_size=8", "trainer.max_epochs=10000", "checkpoint_minutes=60")
CPU = "trainer.accelerator=cpu"


class RayCluster:
    """A cluster in a process of its own."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CLUSTER],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    made = RayCluster(tmp_path_factory.mktemp("cluster"))
    yield made
    if made.process.poll() is None:
        made.tell("end")
    made.process.wait(60)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(cluster: RayCluster, tmp_path: Path) -> Start:
    """Start a sweep on the cluster, in a folder with a router that is not installed."""
    (tmp_path / "mine.py").write_text(MINE)
    choice = tmp_path / "conf" / "router" / "mine.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: mine.Mine\n_partial_: true\niterations: 2\n")

    def start(*arguments: str, address: str = cluster.address) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "capsbench", "train", "-m", "--config-dir", "conf", "launcher=ray"]
        command += ["trainer.enable_progress_bar=false", f"hydra.launcher.ray.init.address={address}", *arguments]
        with (tmp_path / "stdout").open("w") as printed, (tmp_path / "stderr").open("w") as said:
            return subprocess.Popen(command, cwd=tmp_path, stdout=printed, stderr=said, text=True)

    return start


def wait(until: Callable[[], Any], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_workers_find_what_is_beside_the_sweep(start: Start, tmp_path: Path) -> None:
    """Relative paths, choices of one's own, and modules beside them."""
    ended = start(*SHORT, CPU)
    assert ended.wait(240) == 0, (tmp_path / "stderr").read_text()
    (result,) = tmp_path.rglob("result.json")
    assert result.relative_to(tmp_path / "outputs" / "adhoc" / "digits" / "resnet_capsnet_small" / "mine")
    assert (tmp_path / "seen").read_text() == ""


def test_a_run_on_a_gpu_gets_one_though_the_head_has_none(start: Start, tmp_path: Path) -> None:
    ended = start(*SHORT, "trainer.accelerator=gpu")
    assert ended.wait(240) == 1  # the node only pretends
    assert (tmp_path / "seen").read_text() == "0"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "error: the cluster has GPUs (1), and this machine none that trainer.accelerator=auto could mean; set"),
        (
            [CPU, "hydra.launcher.ray.remote.num_cpus=64"],
            "error: a run asks Ray for 64 CPU, and no node of the cluster has that, but 1 CPU or 2 CPU; lower",
        ),
        (
            ["trainer.accelerator=gpu", "gpus_per_run=4"],
            "error: a run asks Ray for 1 CPU and 4 GPU, and no node of the cluster has that, but 1 CPU and 0 GPU or",
        ),
    ],
    ids=["auto", "cpus", "gpus"],
)
def test_what_the_cluster_does_not_have(start: Start, tmp_path: Path, asked: list[str], said: str) -> None:
    assert start(*SHORT, *asked).wait(20) == 2
    (line,) = (tmp_path / "stderr").read_text().splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there(start: Start, tmp_path: Path, address: str) -> None:
    assert start(CPU, address=address).wait(20) == 1
    (line,) = (tmp_path / "stderr").read_text().splitlines()
    assert line.startswith("error: no Ray cluster answers at ")
    assert f"hydra.launcher.ray.init.address={address} means; start one with ray start" in line


def test_a_killed_worker_is_replaced(start: Start, tmp_path: Path) -> None:
    process = start("data.subset=320", "data.batch_size=16", "trainer.max_epochs=3", CPU, "checkpoint_minutes=0")
    wait(lambda: list(tmp_path.rglob("resume.ckpt")))
    (session,) = tmp_path.rglob("session.json")
    os.kill(json.loads(session.read_text())["pid"], signal.SIGKILL)
    assert process.wait(240) == 0
    (result,) = tmp_path.rglob("result.json")
    assert len(json.loads(result.read_text())["sessions"]) == 2


def test_after_ctrl_c_all_tasks_save(start: Start, tmp_path: Path) -> None:
    process = start(*ENDLESS, CPU, "seed=1,2,3,4")
    wait(lambda: len(list(tmp_path.rglob("progress.json"))) == 3)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 128 + signal.SIGINT
    assert len(list(tmp_path.rglob("resume.ckpt"))) == 3
    assert not list(tmp_path.rglob("session.json"))
    said = (tmp_path / "stderr").read_text().splitlines()
    assert said[-1] == "error: interrupted by SIGINT: 4 of 4 runs are not finished; the same command continues them"
    command = [sys.executable, "-m", "capsbench", "status", "--json", *ENDLESS, CPU, "seed=1,2,3,4"]
    states = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).stdout)
    assert sorted(state["state"] for state in states) == ["interrupted"] * 3 + ["missing"]


def test_a_cluster_that_grows_and_then_ends(cluster: RayCluster, start: Start, tmp_path: Path) -> None:
    """The last test: the cluster is gone after it."""
    asked = (*ENDLESS, CPU, "hydra.launcher.ray.remote.num_cpus=3")
    process = start(*asked, "wait=true")
    time.sleep(15)
    assert process.poll() is None
    cluster.tell("grow")
    wait(lambda: list(tmp_path.rglob("progress.json")))
    cluster.tell("end")
    cluster.process.wait(60)
    assert process.wait(20) == 1
    assert (tmp_path / "stderr").read_text().splitlines()[-1].startswith("error: the Ray cluster at ")
