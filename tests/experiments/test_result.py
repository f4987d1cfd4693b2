"""The file that says a run is finished."""

from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.experiments import RESULT_FILE, Result


@pytest.fixture
def result() -> Result:
    return Result(
        experiment="demo",
        data="digits",
        arch="capsnet",
        router="fm",
        seed=1,
        identity="0123abcd",
        settings={"router": {"scale": 0.5}},
        choices={"loss": "margin"},
        metrics={"test/accuracy": 0.5},
        history=[{"epoch": 1, "test/accuracy": 0.5}],
        parameters=10,
        epochs=1,
        steps=2,
        wall_time_s=3.0,
        versions={"torch": "2"},
        device="cpu",
        git_commit=None,
        smoke=False,
        data_title="digits",
        stands_in_for=None,
        train_examples=1437,
        test_examples=360,
        full=True,
    )


def test_what_is_saved_is_what_is_loaded(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    assert Result.load(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == [RESULT_FILE]


def test_a_save_that_fails_leaves_the_old_result(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result.save(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replace(result, seed=2).save(tmp_path)
    assert Result.load(tmp_path) == result


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"experiment": "demo"}'])
def test_a_file_that_is_no_result(tmp_path: Path, content: str) -> None:
    (tmp_path / RESULT_FILE).write_text(content)
    with pytest.raises(ValueError, match=r"result\.json is not a result of this version .* delete it"):
        Result.load(tmp_path)
