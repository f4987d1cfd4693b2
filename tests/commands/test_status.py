"""`capsbench status` where a run's folder holds something unexpected."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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
    capsbench("status", "seed=1,2")
    printed = capsys.readouterr().out
    assert "2 runs, 1 failed, 1 missing" in printed
    assert f"{folder / 'result.json'} is not a result of this version" in printed
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
