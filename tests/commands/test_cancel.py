"""`capsbench cancel`: what is done with a job, by its state and by what its run has saved."""

import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.commands.cancel import HEARD_S, SAVE_S, _end_processes, _Job
from capsbench.runs import RunFolder
from capsbench.runs.submission import Job

RUNS = Job("17", "RUNNING", None, "node3", "submission.sh")


@pytest.fixture
def trained(tmp_path: Path) -> _Job:
    """A job whose run trains."""
    folder = RunFolder(tmp_path)
    folder.session.write_text('{"pid": 4711, "host": "node3"}')
    return _Job("17", [folder])


def test_a_job_that_waits_is_taken_out_of_the_queue(tmp_path: Path) -> None:
    job = _Job("17", [RunFolder(tmp_path)])
    assert job.next_step(replace(RUNS, state="PENDING"), now=0.0) == "dequeue"
    assert job.how_it_ended(job.folders[0]) == "job 17 was cancelled before it trained"


def test_a_job_that_has_nothing_to_save_ends_at_once(tmp_path: Path) -> None:
    assert _Job("17", [RunFolder(tmp_path)]).next_step(RUNS, now=0.0) == "kill"


def test_a_run_that_saves_is_waited_for(trained: _Job) -> None:
    (folder,) = trained.folders
    assert trained.next_step(RUNS, now=0.0) == "tell"
    trained.told_at, trained.times_told = 0.0, 1
    folder.session.write_text('{"pid": 4711, "host": "node3", "signal": "SIGTERM"}')
    assert trained.next_step(RUNS, now=SAVE_S) is None
    folder.session.unlink()
    assert trained.next_step(replace(RUNS, state="COMPLETING"), now=SAVE_S) is None
    assert trained.next_step(RUNS, now=SAVE_S) == "kill"  # a job may train more than one run
    assert trained.how_it_ended(folder) == "job 17 saved and ended"


def test_a_run_that_heard_nothing_is_told_again_and_one_that_never_saves_is_killed(trained: _Job) -> None:
    trained.told_at, trained.times_told = 0.0, 1
    assert trained.next_step(RUNS, now=HEARD_S - 1) is None
    assert trained.next_step(RUNS, now=HEARD_S) == "tell"
    trained.times_told = 2
    assert trained.next_step(RUNS, now=HEARD_S + 1) is None  # another signal so soon would end it unsaved
    assert trained.next_step(RUNS, now=SAVE_S + 1) == "kill"
    trained.killed_at = SAVE_S + 1
    assert trained.next_step(RUNS, now=SAVE_S + 2) is None
    assert trained.how_it_ended(trained.folders[0]) == "job 17 was killed before it had saved"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for who holds a lock as Linux shows it")
@pytest.mark.parametrize("named", ["another", "all"])
def test_a_process_that_does_not_train_the_run_is_left_alone(
    tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with folder.locked():
        pid = other.pid if named == "another" else -1
        folder.session.write_text(json.dumps({"pid": pid, "host": platform.node()}))
        assert _end_processes([folder]) == {folder: False}
    assert "by what its folder says" in capsys.readouterr().out
    assert other.poll() is None
    other.kill()
    other.wait()
