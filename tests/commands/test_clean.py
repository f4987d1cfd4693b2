"""`capsbench clean` deletes what nobody needs, and only when it is told to."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.runs import Identity, NamedRuns, Result, RunFolder

Command = Callable[..., Path]


def identity(seed: int, experiment: str = "demo") -> Identity:
    return Identity(experiment, "digits", "capsnet", "fm", seed, settings={"seed": seed}, choices={"router": "fm"})


def begun(seed: int, experiment: str = "demo") -> RunFolder:
    run = identity(seed, experiment)
    folder = RunFolder(run.folder("outputs"))
    folder.weights.parent.mkdir(parents=True)
    folder.config.write_text("seed: 1")
    run.save(folder.identity)
    for path in (folder.weights, folder.resume):
        path.write_bytes(b"x" * 1000)
    return folder


def finished(seed: int, experiment: str = "demo") -> RunFolder:
    folder, run = begun(seed, experiment), identity(seed, experiment)
    told = {
        name: getattr(run, name) for name in ("experiment", "data", "arch", "router", "seed", "settings", "choices")
    }
    result = Result(**told, identity=run.digest, metrics={"test/accuracy": 0.9}, identity_version=run.version)
    replace(result, epochs=1, history=[{"epoch": 1}]).save(folder.path)
    return folder


def failed(seed: int) -> RunFolder:
    folder = begun(seed)
    folder.record("loss is NaN", "Traceback", failed=True)
    return folder


@pytest.fixture
def clean(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        capsbench("clean", *arguments)
        return capsys.readouterr().out

    return run


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file() and path.name != "run.lock"}


def test_without_a_terminal_it_only_shows(clean: Callable[..., str]) -> None:
    finished(1)
    before = files()
    printed = clean()
    assert "1 runs have" in printed
    assert "of which 2.0 kB are checkpoints" in printed
    assert "nothing was deleted; --yes deletes 1 files, 1.0 kB" in printed
    assert "with weights=true" in printed
    assert files() == before


def test_what_only_an_unfinished_run_needs_goes_of_finished_ones(clean: Callable[..., str]) -> None:
    done, begun_one, lost = finished(1), begun(2), failed(3)
    (done.path / "result.json.tmp").write_text("half")
    before = files()
    assert "deleted 2 of 2 files" in clean("--yes")
    assert before - files() == {str(done.resume), str(done.path / "result.json.tmp")}
    assert begun_one.resume.is_file()
    assert lost.resume.is_file()
    assert Result.load(done.path).seed == 1


def test_temporary_files_of_an_interrupted_run_go_and_its_checkpoint_stays(clean: Callable[..., str]) -> None:
    run = begun(1)
    (run.path / "progress.json.tmp").write_text("half")
    (run.weights.parent / "resume.ckpt.tmp").write_text("half")
    before = files()
    assert "deleted 2 of 2 files" in clean("--yes", "weights=true", "failed=true")
    assert before - files() == {str(run.path / "progress.json.tmp"), f"{run.resume}.tmp"}


def test_weights_and_failed_runs_go_where_that_is_said(clean: Callable[..., str]) -> None:
    done, lost = finished(1), failed(3)
    (done.path / "notes.txt").write_text("mine")
    clean("--yes", "weights=true", "failed=true")
    assert not done.weights.exists()
    assert done.result.is_file()
    assert not lost.path.exists()
    assert (done.path / "notes.txt").read_text() == "mine"


def test_what_somebody_put_into_a_failed_run_stays(clean: Callable[..., str]) -> None:
    lost = failed(3)
    (lost.path / "notes.txt").write_text("mine")
    (lost.path / "checkpoints" / "mine.ckpt").write_text("mine")
    clean("--yes", "failed=true")
    assert files() == {str(lost.path / "notes.txt"), str(lost.path / "checkpoints" / "mine.ckpt")}


def test_a_run_that_is_being_trained_is_left_alone(clean: Callable[..., str]) -> None:
    lost, done, begun_one = failed(1), finished(2), begun(3)
    (begun_one.path / "progress.json.tmp").write_text("half")
    with lost.locked(), done.locked(), begun_one.locked():
        before = files()
        clean("--yes", "failed=true", "weights=true")
        assert files() == before


def test_no_link_is_followed(clean: Callable[..., str]) -> None:
    done, lost = finished(1), failed(2)
    Path("precious").mkdir()
    (Path("precious") / "resume.ckpt").write_text("mine")
    (Path("precious") / "last.ckpt").write_text("mine")
    done.resume.unlink()
    done.resume.symlink_to(Path("precious/resume.ckpt").absolute())
    for path in (lost.weights, lost.resume):
        path.unlink()
    lost.weights.parent.rmdir()
    lost.weights.parent.symlink_to(Path("precious").absolute())
    clean("--yes", "failed=true", "weights=true")
    assert {path.name for path in Path("precious").iterdir()} == {"resume.ckpt", "last.ckpt"}
    assert os.path.lexists(done.resume)


def test_a_lock_that_is_a_link_is_not_opened(clean: Callable[..., str]) -> None:
    lost = failed(1)
    Path("precious").write_text("mine")
    lost.lock.symlink_to(Path("precious").absolute())
    clean("--yes", "failed=true")
    assert Path("precious").read_text() == "mine"
    assert lost.config.is_file()


def test_a_folder_that_is_not_its_runs_is_left_alone(clean: Callable[..., str]) -> None:
    lost = failed(1)
    lost.path.rename(lost.path.with_name("seed1-mine"))
    other = Path("outputs/other")
    (other / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "error.txt", "checkpoints/resume.ckpt", "a.tmp"):
        (other / name).write_text("mine")
    before = files()
    clean("--yes", "failed=true", "weights=true")
    assert files() == before


def test_what_was_published_stays(clean: Callable[..., str]) -> None:
    run = identity(1)
    folder = RunFolder(run.folder("outputs/published"))
    folder.path.mkdir(parents=True)
    run.save(folder.identity)
    folder.record("loss is NaN", "", failed=True)
    before = files()
    clean("--yes", "failed=true")
    assert files() == before


def test_names_that_no_run_has_any_more_go(clean: Callable[..., str]) -> None:
    outputs = Path("outputs")
    here = finished(1)
    here.resume.unlink()
    NamedRuns(outputs, "monday").add([here])
    NamedRuns(outputs, "tuesday").add([RunFolder(identity(7).folder(outputs))])
    (outputs / "names" / "notes.json").write_text("{}")
    clean("--yes")
    assert {path.name for path in (outputs / "names").glob("*.json")} == {"monday.json", "notes.json"}


def test_one_experiment_alone(clean: Callable[..., str]) -> None:
    demo, other = finished(1), finished(1, "other")
    assert "deleted 1 of 1 files" in clean("--yes", "experiment=other")
    assert demo.resume.is_file()
    assert not other.resume.exists()


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("", False), ("no", False)])
def test_in_a_terminal_it_asks(
    clean: Callable[..., str], monkeypatch: pytest.MonkeyPatch, answer: str, goes: bool
) -> None:
    done = finished(1)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    clean()
    assert done.resume.is_file() != goes


def test_where_nothing_is(clean: Callable[..., str]) -> None:
    assert "nothing is to be deleted" in clean()


@pytest.mark.parametrize("word", ["output_dir=nowhere", "experiment=nowhere"])
def test_a_folder_that_is_not_there_is_named(capsbench: Command, word: str) -> None:
    Path("outputs").mkdir()
    with pytest.raises(SystemExit, match=r"error: there is no folder .*nowhere") as ended:
        capsbench("clean", word)
    assert ended.value.code == 2
