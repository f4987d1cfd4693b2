"""What a signal does to a process; whole commands are in tests/faults/test_signals.py."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsbench import signals
from capsbench.launch.errors import one_line
from capsbench.signals import SIGNALS, Interrupted, heeded, interruptible, receive, told, uninterrupted


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each test begin with a process that no signal has reached."""
    monkeypatch.setattr(signals, "_process", signals._Process())
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_told_and_raised(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted) as stopped, heeded():
        send(number)
    assert stopped.value.code == 128 + number
    assert capsys.readouterr().err == f"error: interrupted by {number.name}\n"
    with heeded():
        pass  # the next command in this process begins anew


def test_a_signal_is_held_back_to_the_end_of_a_block() -> None:
    done = []

    def save() -> None:
        with heeded():
            with uninterrupted():
                send(signal.SIGTERM)
                done.append("saved")
            done.append("too far")

    with pytest.raises(Interrupted):
        save()
    assert done == ["saved"]


def test_a_signal_that_came_before_is_raised_at_the_beginning() -> None:
    receive(signal.SIGHUP)
    assert signals.received() == signal.SIGHUP
    with pytest.raises(Interrupted), interruptible():
        pytest.fail("begun")


def test_listeners_are_told_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    with told(heard.append):
        receive(signal.SIGTERM)
        receive(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_a_second_signal_ends_the_process_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    receive(signal.SIGINT)
    receive(signal.SIGINT)
    assert ended == [], "the same one, passed on"
    monkeypatch.setattr(signals, "ECHO_S", -1.0)
    receive(signal.SIGINT)
    assert ended == [130]
    assert capfd.readouterr().err == "error: ended at once by a second signal, SIGINT\n"


def test_a_signal_in_an_import_ends_the_process_though_the_module_catches_everything(tmp_path: Path) -> None:
    (tmp_path / "catching.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    print('caught')\n"
    )
    program = "from capsbench.signals import heeded\nprint('kept')\nwith heeded():\n    import catching"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "kept\n", "error: interrupted by SIGTERM\n")


def test_a_signal_is_told_though_a_library_made_another_exception_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    def compose() -> None:
        try:
            send(signal.SIGTERM)
        except BaseException as error:
            raise ValueError("cannot compose") from error

    with pytest.raises(Interrupted), heeded(), one_line():
        compose()
    assert capsys.readouterr().err == "error: interrupted by SIGTERM\n"


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeded():
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interruption_passes_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "told")))
    assert (str(error), error.code, error.signal_number) == ("told", 143, signal.SIGTERM)
    assert str(Interrupted(signal.SIGTERM)) == "interrupted by SIGTERM"
