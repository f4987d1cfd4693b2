"""~ is the home folder, wherever a path is given."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., Path]
RUN = ("train", "trainer=smoke", "data.subset=64", "trainer.enable_progress_bar=false")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(("mode", "word"), [((), "output_dir='~/runs'"), (("-m",), "output_dir=~/runs")])
def test_runs_go_home(capsbench: Command, home: Path, word: str, mode: tuple[str, ...]) -> None:
    capsbench(*RUN, *mode, word)
    assert [path.name for path in home.rglob("result.json")] == ["result.json"]
    assert not Path("~").exists()
    capsbench("evaluate", f"run=[~/{next(home.rglob('result.json')).parent.relative_to(home)}]")
    assert list(home.rglob("evaluation-test.json"))
    capsbench("report", word.replace("'", "").replace('"', ""))
    assert (home / "runs" / "report.html").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize("word", [None, "data_dir=~/data", "data_dir='~/data'"])
def test_data_is_found_at_home(
    capsbench: Command,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str | None,
) -> None:
    monkeypatch.setattr("capsbench.data.files._download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    if word is None:
        monkeypatch.setenv("CAPSBENCH_DATA", "~/data")
    with pytest.raises(SystemExit):
        capsbench("train", "data=mnist", *([word] if word else []))
    assert f"{home}/data/mnist lacks" in capsys.readouterr().err
    assert not Path("~").exists()
