"""What a run's folder, and the queue that it was handed to, tell."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.runs import Result, RunFolder, State
from capsbench.runs.submission import Job, Submission

WAITS = Job("17_3", "PENDING", "Resources", None, "submission.sh")
RUNS = Job("17_3", "RUNNING", None, "node3", "submission.sh")
PROGRESS = {"epoch": 2, "step": 20, "steps": 100, "eta_s": 8.0, "updated": 0.0}


def test_a_run_that_ends_while_one_looks_is_done(folder: Path, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(folder)
    run.config.touch()

    def end_it(self: RunFolder) -> bool:
        result.save(self.path)
        return False

    monkeypatch.setattr(RunFolder, "is_locked", property(end_it))
    assert State.of(run) == State("done", metrics=result.metrics, learned=False)


@pytest.mark.parametrize(("job", "name"), [(WAITS, "queued"), (RUNS, "running")], ids=["waits", "runs"])
def test_a_run_that_has_not_begun_is_where_its_job_is(tmp_path: Path, job: Job, name: str) -> None:
    run = RunFolder(tmp_path)
    assert State.of(run).name == "missing"
    Submission(job.number, "17_3_0_log.out").save(run)
    assert State.of(run, job) == State(name, job=job)  # type: ignore[arg-type]
    assert State.of(run).name == "missing"


@pytest.mark.parametrize("state", ["CANCELLED", "TIMEOUT", "COMPLETING"])
def test_a_job_that_is_over_tells_nothing_of_its_run(tmp_path: Path, state: str) -> None:
    assert State.of(RunFolder(tmp_path), replace(RUNS, state=state)).name == "missing"


def test_a_run_that_its_job_trained_before_waits_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.touch()
    run.progress.write_text(json.dumps(PROGRESS))
    os.utime(run.progress, (100, 100))
    Submission("17_3", "17_3_0_log.out").save(run)
    resumed = State.of(run, WAITS)
    assert (resumed.name, resumed.requeued) == ("queued", False)
    assert resumed.progress is not None
    os.utime(run.job, (50, 50))
    assert State.of(run, WAITS).requeued


def test_a_failed_run_that_is_tried_again_is_queued_and_fails_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.touch()
    run.record("loss is NaN", "", failed=True)
    assert State.of(run, WAITS).name == "queued"
    assert State.of(run, RUNS) == State("failed", cause="loss is NaN")  # its job just ends


def test_a_finished_run_is_done_whatever_the_queue_says(folder: Path, result: Result) -> None:
    result.save(folder)
    assert State.of(RunFolder(folder), WAITS).name == "done"
