"""Jobs of a real Slurm: what `capsbench status` shows of them, what ends them, and that none is submitted twice."""

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import RunFolder

pytestmark = pytest.mark.engines

RUNS = ("data=digits", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu")
LONG = ("data.subset=320", "data.batch_size=16", "trainer.max_epochs=500", "checkpoint_minutes=0.05", "seed=1,2,3")
SHORT = ("data.subset=64", "trainer.max_epochs=1", "seed=1,2")
SLURM = ("launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30")
Slurm = Any


@pytest.fixture(scope="module")
def two(start_slurm: Callable[..., Slurm]) -> Slurm:
    """A cluster that trains two runs at once."""
    slurm = start_slurm(ACCOUNTING="0", CPUS="2", MEMORY_MB="3000")
    slurm.environment["COLUMNS"] = "300"
    return slurm


def states(slurm: Slurm, folder: Path, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(slurm.run(folder, "status", *words, "--json").stdout)
    return found


def wait_until(slurm: Slurm, folder: Path, words: tuple[str, ...], holds: Callable[..., bool]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 120
    while not holds(runs := states(slurm, folder, *words)):
        assert time.monotonic() < deadline, runs
        time.sleep(1)
    return runs


def jobs(slurm: Slurm) -> list[str]:
    return slurm.tell("squeue", "--noheader", "--array", "--format=%i").split()


def interrupted(process: subprocess.Popen[bytes], folder: Path, number: signal.Signals = signal.SIGINT) -> list[str]:
    """Send Ctrl-C, or another signal; what the command says then."""
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    return (folder / "stderr").read_text().splitlines()[-3:]


def test_jobs_outlive_the_command_are_shown_and_cancelled(two: Slurm, tmp_path: Path) -> None:
    words = (*RUNS, *LONG)
    first = two.popen(tmp_path, "train", "-m", *words, *SLURM)
    runs = wait_until(two, tmp_path, words, lambda runs: sum(run["progress"] is not None for run in runs) == 2)

    # Running and queued.
    assert sorted(run["state"] for run in runs) == ["queued", "running", "running"]
    node = two.tell("sinfo", "--noheader", "--format=%N").strip()
    (queued,) = (run["job"] for run in runs if run["state"] == "queued")
    assert (queued["state"], queued["reason"], queued["node"]) == ("PENDING", "Resources", None)
    assert {run["job"]["node"] for run in runs if run["state"] == "running"} == {node}
    assert {run["job"]["number"] for run in runs} == set(jobs(two))
    shown = two.run(tmp_path, "status", *words)
    assert re.search(rf"running on {node} \(job \d+_\d\), epoch \d+, \d+%", shown.stdout)
    assert f"queued (job {queued['number']}: Resources)" in shown.stdout

    # Asked for again: no further job.
    (again := tmp_path / "again").mkdir()
    second = two.popen(again, "train", "-m", *words, *SLURM, f"output_dir={tmp_path / 'outputs'}")
    deadline = time.monotonic() + 60
    while b"in the queue already" not in (again / "stdout").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "3 of 3 runs are in the queue already" in (again / "stdout").read_text()
    assert len(jobs(two)) == 3

    # Signals to the commands that wait.
    told = interrupted(second, again, signal.SIGTERM)
    assert told[0] == "error: interrupted by SIGTERM: the jobs of 3 runs go on without this command"
    assert told[1].endswith(f" output_dir={tmp_path / 'outputs'}")
    told = interrupted(first, tmp_path)
    watch, cancel = (shlex.split(line.partition(":")[2]) for line in told[1:])
    assert watch == ["capsbench", "status", *words]
    assert cancel == ["capsbench", "cancel", *words]
    time.sleep(2)
    assert len(jobs(two)) == 3
    assert sorted(run["state"] for run in states(two, tmp_path, *words)) == ["queued", "running", "running"]

    # A job that goes before takes a node away.
    two.tell(
        "sbatch",
        "--partition=urgent",
        "--cpus-per-task=1",
        "--wrap=sleep 300",
        "--job-name=urgent",
        "--output=/dev/null",
    )
    runs = wait_until(two, tmp_path, words, lambda runs: any(run["job"] and run["job"]["requeued"] for run in runs))
    (back,) = (run for run in runs if run["job"]["requeued"])
    assert back["state"] == "queued"
    assert back["progress"]["step"] > 0
    shown = two.run(tmp_path, "status", *words).stdout
    assert re.search(rf"queued again \(job {back['job']['number']}: \w+\), epoch \d+", shown)
    two.tell("scancel", "--name=urgent")

    # Cancelled: those that train save.
    ended = two.run(tmp_path, *cancel[1:])
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert sum(line.endswith("saved and ended") for line in lines) >= 1
    assert sum(line.endswith("was cancelled before it trained") for line in lines) >= 1
    assert lines[-1].startswith("3 of 3 runs were ended")
    assert jobs(two) == []
    runs = states(two, tmp_path, *words)
    assert {run["state"] for run in runs} <= {"interrupted", "missing"}
    assert {run["cause"] for run in runs} == {"capsbench cancel ended it"}
    trained = [RunFolder(tmp_path / line.partition(":")[0]) for line in lines if line.endswith("saved and ended")]
    assert all(run.resume.is_file() and not run.session.exists() for run in trained)
    nothing = two.run(tmp_path, *cancel[1:])
    assert (nothing.returncode, nothing.stdout) == (0, "none of 3 runs is queued or running\n")


def test_runs_of_one_job_are_cancelled_together_and_the_command_that_waits_ends(two: Slurm, tmp_path: Path) -> None:
    words = (*RUNS, *LONG)
    waiting = two.popen(tmp_path, "train", "-m", *words, *SLURM, "hydra.launcher.runs_per_job=3")
    runs = wait_until(two, tmp_path, words, lambda runs: any(run["progress"] for run in runs))
    assert len({run["job"]["number"] for run in runs}) == 1
    assert [run["state"] for run in runs] == ["running", "queued", "queued"]
    assert {run["job"]["reason"] for run in runs[1:]} == {"runs before it in this job"}
    ended = two.run(tmp_path, "cancel", *words)
    assert ended.returncode == 0
    first, *others, last = ended.stdout.splitlines()
    assert first.endswith("saved and ended")
    assert all(line.endswith("was cancelled before it trained") for line in others)
    assert last.startswith("3 of 3 runs were ended")
    assert waiting.wait(timeout=60) == 1
    said = (tmp_path / "stderr").read_text().splitlines()
    assert said[-1] == "error: 0 of 3 runs are finished, 3 interrupted; the same command continues them"


def test_a_finished_sweep_submits_nothing(two: Slurm, tmp_path: Path) -> None:
    command = ("train", "-m", *RUNS, *SHORT, *SLURM)
    assert two.run(tmp_path, *command).returncode == 0
    assert not list(tmp_path.rglob("job.json"))
    submitted = list((tmp_path / "outputs" / "slurm").iterdir())
    again = two.run(tmp_path, *command)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "2 of 2 runs are finished"
    assert list((tmp_path / "outputs" / "slurm").iterdir()) == submitted


@pytest.mark.parametrize(
    ("setting", "code", "why"),
    [
        ("hydra.launcher.timeout_min=90", 2, "PartitionTimeLimit: it asks for 1 CPUs on 1 node(s) for 1:30:00"),
        ("hydra.launcher.cpus_per_task=64", 2, "it asks for 64 CPUs on 1 node(s)"),
        ("hydra.launcher.mem_gb=500", 1, "Memory specification can not be satisfied"),
        ("gpus_per_run=1", 1, "Invalid generic resource (gres) specification"),
    ],
)
def test_jobs_that_can_never_start_are_refused_at_once(
    two: Slurm, tmp_path: Path, setting: str, code: int, why: str
) -> None:
    ended = two.run(tmp_path, "train", "-m", *RUNS, *SHORT, *SLURM, setting, seconds=60)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == code
    assert why in line
    assert "a node of partition main has 2 CPUs, 3000 MB, no GPU for at most 1:00:00; change hydra.launcher" in line
    assert jobs(two) == []


def test_a_job_that_can_no_longer_start_is_shown(two: Slurm, tmp_path: Path) -> None:
    words = (*RUNS, *SHORT)
    two.tell("scontrol", "update", "partitionname=main", "state=DOWN")
    try:
        waiting = two.popen(tmp_path, "train", "-m", *words, *SLURM)
        runs = wait_until(two, tmp_path, words, lambda runs: all(run["state"] == "queued" for run in runs))
        assert {run["job"]["reason"] for run in runs} == {"PartitionDown"}
        two.tell("scontrol", "update", "partitionname=main", "state=UP", "maxtime=10")
        wait_until(two, tmp_path, words, lambda runs: all(run["job"]["never_starts"] for run in runs))
        shown = two.run(tmp_path, "status", *words)
        assert "PartitionTimeLimit, can never start" in shown.stdout
        assert shown.stderr.startswith("2 jobs can never start, PartitionTimeLimit: it asks for 1 CPUs on 1 node(s)")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=30) == 130
        before = set(jobs(two))
        again = two.popen(tmp_path, "train", "-m", *words, *SLURM, "hydra.launcher.timeout_min=9")
        runs = wait_until(two, tmp_path, words, lambda runs: any(run["state"] == "running" for run in runs))
        assert before.isdisjoint(jobs(two))
    finally:
        two.tell("scontrol", "update", "partitionname=main", "state=UP", "maxtime=60")
        ended = two.run(tmp_path, "cancel", *words)
    assert ended.returncode == 0
    assert jobs(two) == []
    again.wait(timeout=60)
