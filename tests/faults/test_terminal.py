"""A command's fate does not hang on its terminal, and a log shows how far a run is."""

import contextlib
import errno
import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from capsbench.launch.output import unbreakable_output
from capsbench.runs import RunFolder, State

Run = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SMOKE = ("train", "trainer=smoke", "data.subset=64")
SHORT = ("train", "data.subset=64", "data.batch_size=32", "trainer.max_epochs=3", "checkpoint_minutes=0")


@contextlib.contextmanager
def broken_pipe() -> Iterator[int]:
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    writer = os.open("/dev/full", os.O_WRONLY)
    yield writer
    os.close(writer)


def written_to(file: int) -> TextIO:
    """A stream as Python makes for its standard output."""
    return open(file, "w", closefd=False)


PLACES = pytest.mark.parametrize("place", [broken_pipe, full_disk])


@PLACES
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_run_goes_on_where_nobody_reads(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, place: Callable[..., Iterator[int]], stream: str
) -> None:
    with place() as writer, monkeypatch.context() as patch:
        patch.setattr(sys, stream, written_to(writer))
        outputs = capsbench(*SMOKE)
    (path,) = outputs.rglob("result.json")
    assert State.of(RunFolder(path.parent)).name == "done"


def test_a_run_goes_on_without_any_output(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)  # as Python has it after >&-
        patch.setattr(sys, "stderr", None)
        outputs = capsbench(*SMOKE)
    assert len(list(outputs.rglob("result.json"))) == 1


def test_a_bar_on_a_terminal_that_hangs_up(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    os.close(ours)
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", written_to(theirs))
        outputs = capsbench(*SMOKE)
    os.close(theirs)
    assert len(list(outputs.rglob("result.json"))) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    path = tmp_path / "printed"
    with path.open("w", encoding=encoding) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with unbreakable_output():
            print("0.9 ± 0.1 → \udcff")
        assert sys.stdout is stream
    assert path.read_text(encoding) == "0.9 ± 0.1 \\u2192 \\udcff\n".replace(
        "±", "±" if encoding == "latin-1" else "\\xb1"
    )


def test_logging_that_was_set_up_before_is_kept_from_breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a launcher's worker, where Hydra sets it up before the job begins."""
    with broken_pipe() as writer, monkeypatch.context() as patch:
        stream = written_to(writer)
        patch.setattr(sys, "stdout", stream)
        handler = logging.StreamHandler(stream)
        patch.setattr(logging.root, "handlers", [handler])
        with unbreakable_output():
            logging.root.warning("nobody reads this")
        handler.flush()


def test_a_stream_of_somebody_elses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()  # a notebook's
    monkeypatch.setattr(sys, "stdout", stream)
    with unbreakable_output():
        assert sys.stdout is stream


def command(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own, whose end counts, too."""
    return subprocess.run(
        [sys.executable, "-m", "capsbench", *words], stderr=subprocess.PIPE, text=True, check=False, **options
    )  # type: ignore[call-overload]


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    with broken_pipe() as writer:
        for words in (["--help"], ["status", "seed=1,2"], ["train", "--cfg", "job"]):
            ended = command(*words, cwd=tmp_path, stdout=writer)
            assert (ended.returncode, ended.stderr) == (0, ""), words


def test_what_a_full_disk_lost_is_told(tmp_path: Path) -> None:
    with full_disk() as writer:
        ended = command("status", "--json", cwd=tmp_path, stdout=writer)
    assert ended.returncode == 1
    assert ended.stderr == f"error: not all could be printed: {os.strerror(errno.ENOSPC)}\n"


def test_a_file_does_not_take_the_place_of_a_closed_terminal(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom capsbench.launch.output import unbreakable_output\n"
        "with unbreakable_output(), open('file', 'w') as file:\n  print('lost')\n  sys.exit(file.fileno())"
    )
    shell = 'exec "$0" -c "$1" <&- >&- 2>&-'
    ended = subprocess.run(["sh", "-c", shell, sys.executable, code], cwd=tmp_path, check=False)
    assert ended.returncode > 2
    assert (tmp_path / "file").read_text() == ""


def test_a_report_where_only_ascii_can_be_shown(tmp_path: Path) -> None:
    runs = ROOT / "outputs" / "published" / "fig4_v1"
    shutil.copytree(runs, tmp_path / "outputs" / "fig4_v1")
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}
    ended = command(
        *("report", "experiment=fig4_v1"), cwd=tmp_path, env={**os.environ, **ascii_only}, stdout=subprocess.PIPE
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.isascii()
    assert "CapsBench" in (tmp_path / "outputs" / "fig4_v1" / "report.html").read_text(encoding="utf-8")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return "".join(capsys.readouterr()).splitlines()


def test_without_a_terminal_each_epoch_is_a_line(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = (path.parent for path in capsbench(*SHORT, "data.val_fraction=0.5").rglob("result.json"))
    began, *epochs, ended = lines(capsys)
    assert began == f"{folder.relative_to(Path.cwd())}: training"
    assert [line[: line.index(":")] for line in epochs] == [
        "epoch 1 of 3, step 2 of 6",
        "epoch 2 of 3, step 4 of 6",
        "epoch 3 of 3, step 6 of 6",
    ]
    for line in epochs:
        assert "train loss 0." in line
        assert "val accuracy" in line
        assert " s, 0:00:" in line
        assert line.endswith(" left")
    assert "val accuracy" in ended


def test_a_line_tells_only_what_its_epoch_measured(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench(*SHORT, "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2")
    _, first, second, _ = lines(capsys)
    assert "accuracy" not in first
    assert "test accuracy" in second


def test_on_a_terminal_there_is_a_bar(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    capsbench(*SHORT)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    assert "epoch 1 of 3" not in shown


def test_a_sweep_prints_two_lines_a_run_and_five_more(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        capsbench(*SMOKE, "-m", "optim.optimizer.lr=1e-3,1e30", "seed=1,2")
    shown = lines(capsys)
    assert len(shown) <= 2 * 4 + 5, shown
    assert sum(line.endswith(": training") for line in shown) == 4
    capsbench(*SMOKE, "-m", "seed=1,2")
    assert lines(capsys)[-1] == "2 of 2 runs are finished"


def test_quiet_prints_the_end_only(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = capsbench(*SMOKE, "--quiet").rglob("result.json")
    (line,) = lines(capsys)
    assert line.startswith(f"{path.parent.relative_to(Path.cwd())}: test accuracy")
    capsbench(*SMOKE, "-m", "seed=1,2", "--quiet")
    assert lines(capsys) == ["2 of 2 runs are finished"]


@pytest.mark.faults
def test_workers_go_on_where_nobody_reads(tmp_path: Path) -> None:
    with full_disk() as writer:
        ended = command(*SHORT, "-m", "launcher=local", "seed=1,2", cwd=tmp_path, stdout=writer)
    assert ended.returncode == 0, ended.stderr
    assert "Error" not in ended.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 2
