"""What signals do while a run trains; whole runs are in tests/test_resume.py."""

import os
import signal

import pytest

from capsbench.training import Interrupted, StopOnSignal


def test_a_second_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopOnSignal, "ECHO_S", -1.0)  # else the second would be the first, passed on
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stop = StopOnSignal()
    stop._receive(signal.SIGINT, None)
    assert ended == []
    stop._receive(signal.SIGINT, None)
    assert ended == [130]


def test_an_interruption_names_its_signal() -> None:
    assert str(Interrupted(signal.SIGTERM)) == "interrupted by SIGTERM"
