"""Sweeps on a real Slurm of one node, as a user sees them at the terminal."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import RunFolder, State

pytestmark = pytest.mark.engines

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
JOB = ("trainer.accelerator=cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30")
TINY = ("data=digits", "data.subset=64", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
SWEEP = ("train", "-m", "launcher=slurm", *JOB, *TINY)
LONG = ("trainer.max_epochs=10000", "checkpoint_minutes=0")


@pytest.fixture(params=["slurm", "slurm_without_accounting"])
def cluster(request: Any) -> Any:
    """Each of both."""
    return request.getfixturevalue(request.param)


def wait(command: subprocess.Popen[bytes], until: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        assert command.poll() is None
        time.sleep(0.1)


def said(folder: Path, name: str = "stdout") -> list[str]:
    return (folder / name).read_text().splitlines()


def logs(folder: Path) -> list[Path]:
    """What jobs have printed."""
    return list(folder.rglob("*_log.out"))


def states(folder: Path) -> dict[str, str]:
    """The state of each run that was submitted, by its seed."""
    return {path.name.partition("-")[0]: State.of(RunFolder(path)).name for path in sorted(folder.rglob("seed*-*"))}


def number_of(line: str) -> str:
    """The job that a line names at its end."""
    return line.rpartition("job ")[2]


def test_each_run_is_told_and_cancelled_ones_do_not_end_the_others(cluster: Any, tmp_path: Path) -> None:
    command = cluster.popen(tmp_path, *SWEEP, "seed=1,2,3", "data.subset=320", "trainer.max_epochs=4")
    wait(command, lambda: len([line for line in said(tmp_path) if ": training on " in line]) == 3)
    first, waiting = (number_of(line) for line in said(tmp_path) if "seed1" in line or "seed3" in line)
    cluster.tell("scancel", first)
    cluster.tell("scancel", waiting)
    assert command.wait(180) == 1
    printed, errors = said(tmp_path), said(tmp_path, "stderr")
    assert [seed for seed, state in states(tmp_path).items() if state == "done"] == ["seed2"]
    assert printed[0].startswith("submitted 3 jobs, ")
    assert printed[0].endswith("logs are in outputs/slurm")
    assert sum(": interrupted: its job was cancelled" in line for line in printed) == 2
    (accuracy,) = (line for line in printed if "test accuracy" in line)
    assert "seed2" in accuracy
    assert errors[0].startswith("interrupted: outputs/")
    assert errors[0].endswith("and 1 more: its job was cancelled")
    assert errors[1:] == ["error: 1 of 3 runs are finished, 2 interrupted; the same command continues them"]
    assert len(printed + errors) <= 2 * 3 + 5


def test_a_job_that_is_cancelled_before_it_begins(cluster: Any, tmp_path: Path) -> None:
    command = cluster.popen(tmp_path, *SWEEP, "seed=1,2", "hydra.launcher.array_parallelism=1")
    wait(command, lambda: any("seed1" in line for line in said(tmp_path)))
    waiting = RunFolder(next(tmp_path.rglob("seed2-*")))
    assert not waiting.config.exists()
    cluster.tell("scancel", "--state=PENDING", f"--user={cluster.tell('id', '-un').strip()}")
    assert command.wait(120) == 1
    assert said(tmp_path, "stderr") == [
        f"interrupted: {waiting.path.relative_to(tmp_path)}: its job was cancelled before it began",
        "error: 1 of 2 runs are finished, 1 interrupted; the same command continues them",
    ]


def test_a_job_that_dies_before_it_begins(cluster: Any, tmp_path: Path) -> None:
    ended = cluster.run(tmp_path, *SWEEP, "seed=1,2", "hydra.launcher.setup=['echo no such module >&2; exit 3']")
    assert ended.returncode == 1
    first, last = ended.stderr.splitlines()
    assert first.endswith("and 1 more: its job ended as FAILED: no such module")
    assert last == "error: 0 of 2 runs are finished, 2 interrupted; the same command continues them"


def test_quiet(slurm: Any, tmp_path: Path) -> None:
    ended = slurm.run(tmp_path, *SWEEP, "seed=1", "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 of 1 runs are finished\n", "")


def test_a_preempted_job_is_told_where_it_goes_on(slurm: Any, tmp_path: Path) -> None:
    command = slurm.popen(tmp_path, *SWEEP, "seed=1", *LONG, "trainer.max_epochs=8", "data.subset=640")
    wait(command, lambda: list(tmp_path.rglob("resume.ckpt")))
    slurm.tell("sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 2")
    wait(command, lambda: any("preempted, requeued, resumed on " in line for line in said(tmp_path)))
    assert command.wait(180) == 0, said(tmp_path, "stderr")
    begin, training, resumed, accuracy, end = said(tmp_path)
    assert begin.startswith("submitted a job, ")
    assert number_of(training) == number_of(resumed)
    assert "test accuracy" in accuracy
    assert end == "1 of 1 runs are finished"
    assert said(tmp_path, "stderr") == []


def test_a_time_limit_within_imports_requeues(slurm: Any, tmp_path: Path) -> None:
    command = slurm.popen(tmp_path, *SWEEP, "seed=1")
    wait(command, lambda: said(tmp_path) and any("Loading pickle" in path.read_text() for path in logs(tmp_path)))
    number = said(tmp_path)[0].removeprefix("submitted a job, ").partition(";")[0]
    slurm.tell("scancel", "--signal=USR2", number)  # as Slurm says that time is nearly up
    assert command.wait(180) == 0, said(tmp_path, "stderr")
    (log,) = logs(tmp_path)
    assert f"Requeued job {number}" in log.read_text()


def test_a_time_limit_reached_too_often_is_no_failure(slurm: Any, tmp_path: Path) -> None:
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20", "hydra.launcher.max_num_timeout=0")
    ended = slurm.run(tmp_path, *SWEEP, "seed=1", *LONG, *limit)
    assert ended.returncode == 1
    first, last = ended.stderr.splitlines()
    assert first.endswith(
        "its job reached its time limit more than hydra.launcher.max_num_timeout=0 times; hydra.launcher.timeout_min "
        "gives it longer"
    )
    assert last == "error: 0 of 1 runs are finished, 1 interrupted; the same command continues them"
    assert not list(tmp_path.rglob("error.txt"))


def test_more_runs_than_an_array_may_have_several_to_a_job(start_slurm: Callable[..., Any], tmp_path: Path) -> None:
    small = start_slurm(ACCOUNTING="0", MAX_ARRAY="2")
    ended = small.run(tmp_path, *SWEEP, "seed=1,2,3,4,5", "hydra.launcher.runs_per_job=2")
    assert ended.returncode == 0, ended.stderr
    submitted = [line for line in ended.stdout.splitlines() if line.startswith("submitted ")]
    assert len(submitted) == 2, submitted
    assert set(states(tmp_path).values()) == {"done"}
    numbers = {number_of(line) for line in ended.stdout.splitlines() if ": training on " in line}
    assert len(numbers) == 3
    again = small.run(tmp_path, *SWEEP, "seed=1,2,3,4,5")
    assert "submitted" not in again.stdout


def test_a_run_that_is_in_the_queue_is_not_submitted_again(slurm: Any, tmp_path: Path) -> None:
    command = slurm.popen(tmp_path, *SWEEP, "seed=1", "data.subset=320", "trainer.max_epochs=4")
    wait(command, lambda: any(": training on " in line for line in said(tmp_path)))
    again = slurm.run(tmp_path, *SWEEP, "seed=1", "data.subset=320", "trainer.max_epochs=4")
    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == "1 of 1 runs are in the queue already"
    assert again.stdout.splitlines()[-1] == "1 of 1 runs are finished"
    assert command.wait(60) == 0


def test_the_commands_of_the_page(slurm: Any, tmp_path: Path) -> None:
    """Those for CPUs, with small runs; those for GPUs are only planned, where all pages are read."""
    section = PAGE.read_text().partition("## Slurm")[2].partition("```sh")[2].partition("```")[0]
    commands = [line.partition("#")[0].split()[1:] for line in section.splitlines() if "accelerator=cpu" in line]
    assert len(commands) == 2
    for number, words in enumerate(commands):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = slurm.run(folder, *words, *TINY, *JOB[1:])
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1].endswith("runs are finished")
