"""What is told of jobs by the queue and the runs' folders, without a Slurm."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.launch import slurm_watch
from capsbench.launch.slurm_watch import WatchedJob, watch
from capsbench.runs import RunFolder
from capsbench.runs.submission import Job, Submission

Watch = Callable[..., dict[RunFolder, str]]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def seen(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watches the job of one run while the queue says one thing after the other, and then nothing of it."""
    monkeypatch.setattr(slurm_watch, "LOOK_EVERY_S", (0.0, 0.0))
    monkeypatch.setattr(slurm_watch, "FILES_LATE_S", 0.0)
    monkeypatch.setattr(slurm_watch, "ask", lambda *_: None)  # no accounts are kept

    def run(*states: str | Callable[[], object] | None) -> dict[RunFolder, str]:
        left = list(states)

        def read_queue() -> dict[str, Job] | None:
            while left and callable(left[0]):
                left.pop(0)()
            if not left:
                return {}
            state = left.pop(0)
            return None if state is None else {"7": Job("7", state, None, None if state == "PENDING" else "node3", "")}

        monkeypatch.setattr(slurm_watch, "read_queue", read_queue)
        return watch([WatchedJob(Submission("7", str(tmp_path / "7_0_log.out")), [folder])])

    return run


def trained_by(folder: RunFolder, pid: int) -> Callable[[], object]:
    return lambda: folder.session.write_text(json.dumps({"pid": pid, "host": "node3"}))


@pytest.mark.parametrize(
    ("states", "cause"),
    [
        (("PENDING",), "its job was cancelled before it began"),
        (("PENDING", None, None, "CANCELLED", "CANCELLED"), "its job was cancelled"),
        (("RUNNING", "TIMEOUT"), "its job reached its time limit; hydra.launcher.timeout_min asks for more"),
        (("RUNNING", "NODE_FAIL", "NODE_FAIL"), "its job ended as NODE_FAIL: all is lost"),
        (("RUNNING",), "its job left the queue: all is lost"),
    ],
)
def test_why_a_run_came_to_no_end(
    states: tuple[str | None, ...], cause: str, seen: Watch, folder: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "7_0_log.err").write_text("all is lost\nsrun: error: node3: task 0: Exited\n\n")
    assert seen(*states, *states[-1:]) == {folder: cause}


def test_why_a_run_over_two_nodes_came_to_no_end(seen: Watch, folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "7_0_log.err").write_text("submitit WARNING - Bypassing signal SIGCONT\nsrun: node3: task 0: Killed\n")
    (tmp_path / "7_1_log.err").write_text("no such module\n")
    assert seen("RUNNING") == {folder: "its job left the queue: no such module"}


def test_where_a_run_starts_and_goes_on(
    seen: Watch, folder: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors = tmp_path / "7_0_log.err"
    seen(
        *("PENDING", "RUNNING", trained_by(folder, 1), "RUNNING", "RUNNING"),
        *(lambda: errors.write_text("JOB 7 CANCELLED DUE TO PREEMPTION"), "PENDING", "RUNNING"),
        *(trained_by(folder, 2), "RUNNING", "RUNNING"),
        *(lambda: errors.open("a").write("DUE TO NODE FAILURE"), trained_by(folder, 3), "RUNNING", "RUNNING"),
        *("CANCELLED", "CANCELLED"),
    )
    told = [message.removeprefix(f"{folder}: ") for message in caplog.messages]
    assert told == [
        "training on node3, job 7",
        "preempted, requeued, resumed on node3, job 7",
        "a node failed, requeued, resumed on node3, job 7",
        "interrupted: its job was cancelled",
    ]


def test_a_session_of_before_is_no_news(seen: Watch, folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trained_by(folder, 1)()
    folder.resume.parent.mkdir()
    folder.resume.touch()
    seen("RUNNING", "RUNNING", trained_by(folder, 2), "RUNNING", "CANCELLED", "CANCELLED")
    assert caplog.messages[0] == f"{folder}: resumed on node3, job 7"
    assert len(caplog.messages) == 2
