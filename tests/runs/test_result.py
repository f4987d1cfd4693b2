"""The file that says a run is finished."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from capsbench.runs import RESULT_FILE, Result
from capsbench.runs import result as result_module
from capsbench.runs.result import versions


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


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(result_module, "version", version)
    assert versions()["capsbench"] == "not installed"
