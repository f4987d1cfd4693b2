"""Paths of any name on the command line, and words that are no settings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., Path]
SHORT = ("train", "data.subset=64", "data.test_subset=32", "data.batch_size=16", "trainer.max_epochs=1")


def fails(capsbench: Run, *arguments: str) -> str:
    """The line that a command fails with."""
    with pytest.raises(SystemExit) as error:
        capsbench(*arguments)
    assert error.value.code == 2
    return str(error.value)


PATHS = ["ü", "a=b", "a(1)", "~x", "#1", "it's", "a b", "a:b", "2026", "1e3", "null_", "50%", "ключ", "a & b", '"']


@pytest.mark.parametrize("name", PATHS)
def test_any_path_is_a_path(capsbench: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    for place in (f"{tmp_path}/{name}", name):
        for words in (["seed=1"], ["seed=1,2"]):
            capsbench("status", f"output_dir={place}", *words, "--json")
            assert {Path(run["folder"]).parents[4] for run in json.loads(capsys.readouterr().out)} == {Path(place)}
        assert f"no finished runs in {place}; make some" in fails(capsbench, "report", f"output_dir={place}")
        assert f"{place} is not a run's folder" in fails(capsbench, "evaluate", f"run={place}")


def test_a_run_in_a_folder_of_any_name(capsbench: Run, tmp_path: Path) -> None:
    capsbench(*SHORT, "-m", "output_dir=it's #1 (ü=~)", "seed=1")
    assert len(list((tmp_path / "it's #1 (ü=~)").rglob("result.json"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["it's #1 (ü=~)"]


def test_the_home_folder(capsbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    capsbench(*SHORT, "-m", "output_dir=~/runs")
    assert len(list((tmp_path / "home" / "runs").rglob("result.json"))) == 1
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "output_dir="], "output_dir must be a folder, got ''; leave it out to have outputs"),
        (["train", "output_dir=null"], "output_dir must be a folder, got None; leave it out to have outputs"),
        (["train", "-m", "output_dir=", "seed=1,2"], "output_dir must be a folder, got ''"),
        (["status", "output_dir="], "output_dir must be a folder, got ''"),
        (["report", "output_dir="], "output_dir must not be empty; leave it out to have its default"),
        (["evaluate", "run="], "run must not be empty"),
        (["train", "name=a=b"], "is quoted twice: name=\"'a=b (c)'\""),
        (["analyze", "equivariance", "run=[a"], "cannot read run=[a: a list is [a,b]"),
    ],
)
def test_words_that_are_no_settings(capsbench: Run, words: list[str], said: str) -> None:
    assert said in fails(capsbench, *words)
    assert not list(Path().iterdir())
