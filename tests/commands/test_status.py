"""`capsbench status` where a run's folder holds something unexpected."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.launch.config import open_configuration
from capsbench.launch.sweep import plan
from capsbench.runs import Result, RunFolder
from capsbench.runs.submission import Submission

Command = Callable[..., None]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def folder(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> Path:
    """Where the run with seed=1 would be."""
    capsbench("status", "seed=1", "--json")
    (run,) = json.loads(capsys.readouterr().out)
    path = Path(run["folder"])
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("")
    return path


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"metrics": {}}'])
def test_a_damaged_result_is_named_in_the_matrix(
    capsbench: Command, folder: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (folder / "result.json").write_text(content)
    with pytest.raises(SystemExit, match="1 of 2 runs have a result that cannot be believed") as error:
        capsbench("status", "seed=1,2")
    assert error.value.code == 1
    printed = capsys.readouterr().out
    assert "2 runs, 1 failed, 1 missing" in printed
    assert f"{folder / 'result.json'} is no valid result" in printed
    with pytest.raises(SystemExit, match="cannot be believed"):
        capsbench("status", "seed=1,2", "--json")
    first, second = json.loads(capsys.readouterr().out)
    assert (first["state"], second["state"]) == ("failed", "missing")
    assert str(folder / "result.json") in first["cause"]


@pytest.mark.parametrize("cause", ["expected [/data] but got [b]x[/]", "[red]", "a [1, 2] b"])
def test_a_cause_is_shown_as_it_is(
    capsbench: Command, folder: Path, capsys: pytest.CaptureFixture[str], cause: str
) -> None:
    (folder / "error.txt").write_text(f"{cause}\n\nTraceback")
    capsbench("status", "seed=1")
    assert f"failed: {cause}" in capsys.readouterr().out


def test_crashed_did_not_learn_and_learned_are_told_apart(
    capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_configuration() as loader:
        runs = plan(loader, ["seed=1,2,3"])
    for run, accuracy in zip(runs, (0.9, 0.12, None), strict=True):
        run.folder.path.mkdir(parents=True)
        run.folder.config.touch()
        if accuracy is None:
            run.folder.record("loss is NaN", "", failed=True)
            continue
        axes = {name: getattr(run.identity, name) for name in ("experiment", "data", "arch", "router", "seed")}
        told = {"settings": run.identity.settings, "choices": run.identity.choices, "identity": run.identity.digest}
        metrics = {"test/accuracy": accuracy}
        Result(**axes, **told, metrics=metrics, identity_version=2, class_names=[*"0123456789"]).save(run.folder.path)
    capsbench("status", "seed=1,2,3")
    printed = capsys.readouterr().out
    assert "3 runs, 2 done (1 did not learn), 1 failed" in printed
    for cell in ("done test 90.00 %", "done test 12.00 %, did not learn", "failed: loss is NaN"):
        assert cell in printed
    capsbench("status", "seed=1,2,3", "--json")
    assert [run["learned"] for run in json.loads(capsys.readouterr().out)] == [True, False, None]


@pytest.mark.parametrize("name", ["result.json", "error.txt", "progress.json", "session.json", "job.json"])
def test_a_pipe_is_not_waited_for(
    capsbench: Command, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    os.mkfifo(folder / name)
    with contextlib.suppress(SystemExit):
        capsbench("status", "seed=1")
    assert "1 runs, 1 failed" in (printed := capsys.readouterr().out) or "1 interrupted" in printed


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"epoch": "x", "step": 1, "steps": 2, "eta_s": 1e300, "updated": 0}', "[" * 10_000]
)
def test_progress_that_is_none_is_not_shown(
    capsbench: Command, folder: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (folder / "progress.json").write_text(content)
    capsbench("status", "seed=1")
    assert "1 interrupted" in capsys.readouterr().out


def test_own_choices_are_known(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("conf/router/mine.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("_target_: capsbench.routing.FMAgreement\n_partial_: true\nscale: 0.25\n")
    capsbench("status", "--config-dir", "conf", "router=mine", "--json")
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["router"], run["state"]) == ("mine", "missing")


def test_a_queue_that_does_not_answer_is_told(
    capsbench: Command, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    Submission("17", f"{folder}/17_0_log.out").save(RunFolder(folder))
    capsbench("status", "seed=1,2", "--json")
    told = capsys.readouterr()
    assert [run["state"] for run in json.loads(told.out)] == ["interrupted", "missing"]
    assert told.err == "1 runs were handed to Slurm, which does not answer here (squeue): jobs are not told\n"
    with pytest.raises(SystemExit, match="1 runs were handed to Slurm, which does not answer") as error:
        capsbench("cancel", "seed=1,2")
    assert error.value.code == 1


def test_where_nothing_is_trained_nothing_is_cancelled(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("cancel", "seed=1,2")
    assert capsys.readouterr().out == "none of 2 runs is queued or running\n"
