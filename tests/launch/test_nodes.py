"""How the nodes of a run know of each other, without a cluster."""

from pathlib import Path

import pytest

from capsbench.launch import single_run
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.nodes import Node, this_node
from capsbench.launch.sweep import PlannedRun


def job(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    told = {"JOB_ID": 7, "JOB_NODELIST": "gpu[3-4]", "JOB_NUM_NODES": 2, "NTASKS": 2, "PROCID": rank, "NODEID": rank}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")


def test_all_nodes_of_a_job_know_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    job(monkeypatch, 0)
    first = this_node(2)
    job(monkeypatch, 1)
    assert this_node(2) == Node(1, 2, first.meeting_point)
    assert (first.rank, first.meeting_point.partition(":")[0]) == (0, "gpu3")
    assert this_node(1) == Node()
    with pytest.raises(ValueError, match=r"trainer\.num_nodes=3 needs -m and launcher=slurm"):
        this_node(3)


@pytest.mark.parametrize("rank", [0, 1])
def test_nodes_that_do_not_meet(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("trainer=ddp", "trainer.num_nodes=2", "trainer.accelerator=cpu", f"output_dir={tmp_path}")
    with open_configuration() as loader:
        composed = Composer(loader).compose(words)
    run = PlannedRun.of(composed, words)
    monkeypatch.setattr(single_run, "MEETS_S", 1)
    told = r"the 2 nodes of the run did not meet at 127\.0\.0\.1:20001 within 1 s, which all of them must reach: "
    with pytest.raises(ConnectionError, match=told):
        single_run.help_train(composed.config, run.identity, run.folder, Node(rank, 2, "127.0.0.1:20001"))
    assert not run.folder.path.exists()
