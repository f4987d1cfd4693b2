"""What is read of Slurm's queue, where squeue answers, fails, hangs or is not there."""

from pathlib import Path

import pytest

from capsbench.launch import slurm_queue
from capsbench.launch.slurm_queue import job_of, read_queue, states_of
from capsbench.runs import RunFolder
from capsbench.runs.submission import Job, Submission

ANSWER = """17_0|RUNNING|None|node3|/home/a|b/outputs/slurm/submission_file_1.sh
17_1|PENDING|Resources||/home/a|b/outputs/slurm/submission_file_1.sh
17_2|PENDING|PartitionTimeLimit||/home/a|b/outputs/slurm/submission_file_1.sh
18|CANCELLED|PartitionTimeLimit||/elsewhere/submission_file_2.sh
"""
LOG = "/home/a|b/outputs/slurm/{0}/{0}_0_log.out"


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, the only one there is."""
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    return program


def answers(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_jobs_wait_run_and_end(squeue: Path) -> None:
    answers(squeue, f"cat <<'EOF'\n{ANSWER}EOF")
    queue = read_queue()
    assert queue is not None
    script = "/home/a|b/outputs/slurm/submission_file_1.sh"
    assert queue["17_0"] == Job("17_0", "RUNNING", None, "node3", script)
    assert [job.waits for job in queue.values()] == [False, True, True, False]
    assert [job.never_starts for job in queue.values()] == [False, False, True, False]
    assert [job.is_over for job in queue.values()] == [False, False, False, True]


@pytest.mark.parametrize("script", ["exit 1", "sleep 60; exit", None], ids=["fails", "hangs", "is missing"])
def test_without_an_answer_there_is_no_queue(squeue: Path, script: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_queue, "PATIENCE_S", 0.3)
    if script is None:
        monkeypatch.setenv("PATH", str(squeue.parent))
    else:
        answers(squeue, script)
    assert read_queue() is None


def test_a_run_has_the_job_that_the_queue_confirms(squeue: Path, tmp_path: Path) -> None:
    answers(squeue, f"cat <<'EOF'\n{ANSWER}EOF")
    queue = read_queue()
    folder = RunFolder(tmp_path / "seed1-0123abcd")
    assert Submission.read(folder) is None
    Submission("17_1", LOG.format("17_1")).save(folder)
    job = job_of(Submission.read(folder), queue)
    assert job is not None
    assert job.number == "17_1"
    for gone_or_of_others in ("17_9", "18"):
        Submission(gone_or_of_others, LOG.format(gone_or_of_others)).save(folder)
        assert job_of(Submission.read(folder), queue) is None
    assert job_of(Submission("17_1", LOG.format("17_1")), None) is None


def test_runs_of_one_job_wait_for_those_before(squeue: Path, tmp_path: Path) -> None:
    answers(squeue, f"echo '17_0|RUNNING|None|node3|{tmp_path}/submission.sh'")
    passed, trains, waits = (RunFolder(tmp_path / name) for name in ("a", "b", "c"))
    for folder in (passed, trains, waits):
        Submission("17_0", f"{tmp_path}/17_0/log.out").save(folder)
    passed.record("no space left", "", failed=False)
    with trains.locked():
        trains.config.touch()
        states = states_of([passed, trains, waits])
    assert [state.name for state in states] == ["missing", "running", "queued"]
    assert states[2].job is not None
    assert states[2].job.reason == "runs before it in this job"


def test_the_script_of_a_job_may_be_a_link(tmp_path: Path) -> None:
    script = tmp_path / ".submission_file_1.sh"
    script.symlink_to(tmp_path / "17" / "17_submission.sh")
    job = Job("17", "RUNNING", None, "node3", str(script))
    assert job_of(Submission("17", f"{tmp_path}/17/17_0_log.out"), {"17": job}) is job


@pytest.mark.parametrize(
    "written",
    ['{"number": "--user=root", "log": ""}', '{"number": "17\\n", "log": ""}', '{"number": 17, "log": ""}', "[", "{}"],
)
def test_what_is_no_job_is_not_believed(tmp_path: Path, written: str) -> None:
    folder = RunFolder(tmp_path)
    folder.job.write_text(written)
    assert Submission.read(folder) is None
