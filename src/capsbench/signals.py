"""What SIGTERM, SIGINT and SIGHUP do: the process saves what it has, says so and ends with 128 + the signal's number.

It imports nothing slow, so that a command heeds signals before it imports anything else.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ECHO_S = 1.0
"""The same signal again within so many seconds is the same signal: a process on several devices gets Ctrl-C from the
terminal and from its parent."""
IMPORTS = "<frozen importlib._bootstrap>"
"""The file that frames of imports name."""
LOOK_EVERY_S = 0.5
SAVE_S = 4.0
"""Seconds that a process has to save after its parent's death; then it ends, and loses what `kill -9` loses."""


class Interrupted(SystemExit):
    """A signal ends the process. It is no Exception, so that nothing takes it for a failure.

    Args:
        signal_number: number of the signal.
        line: what the user is told; None: its name.
    """

    def __init__(self, signal_number: int, line: str | None = None) -> None:
        super().__init__(signal_number, line)
        self.code = 128 + signal_number
        self.signal_number = signal_number

    def __str__(self) -> str:
        return self.args[1] or f"interrupted by {signal.Signals(self.signal_number).name}"


@dataclass
class _Process:
    """How this process stands to signals.

    Attributes:
        received: number of the first signal.
        received_at: when, in seconds of the monotonic clock.
        raises: raise `Interrupted` where a signal falls; otherwise it is only recorded.
        busy: within `interruptible`: there is something to save.
        heeds: within `heeded`.
        parent: id of the process that this one ends with.
        listeners: told of the first signal.
    """

    received: int | None = None
    received_at: float = 0.0
    raises: bool = False
    busy: bool = False
    heeds: bool = False
    parent: int | None = None
    listeners: list[Callable[[int], None]] = field(default_factory=list)


_process = _Process()


def received() -> int | None:
    """The number of the first signal; None until there is one."""
    return _process.received


def receive(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal: the first is recorded, told to listeners and raised; a second ends the process at once.

    The first one does so, too, if it falls into an import, where modules in C may swallow what is raised.
    A process that follows its parent is not ended by a second one: the parent passes on what both of them may get.

    Raises:
        Interrupted: outside of `uninterrupted` and of imports.
    """
    if _process.received is None:
        record(number)
        if _process.raises and _is_import(frame):
            _end(number, str(Interrupted(number)))
        raise_if_received()
    elif _process.parent is None and (number != _process.received or time.monotonic() - _process.received_at > ECHO_S):
        _end(number, f"ended at once by a second signal, {signal.Signals(number).name}")


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != IMPORTS:
        frame = frame.f_back
    return frame is not None


def _end(number: int, line: str) -> None:
    if not _parent_tells():
        with contextlib.suppress(OSError):  # after SIGHUP there is no terminal
            os.write(2, f"error: {line}\n".encode())
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # lost, in use, closed
        sys.stdout.flush()
    os._exit(128 + number)


def _parent_tells() -> bool:
    return _process.parent == os.getppid()


def record(number: int) -> None:
    """Record the first signal, and tell the listeners."""
    _process.received, _process.received_at = number, time.monotonic()
    for listener in list(_process.listeners):
        listener(number)


def install() -> dict[int, Any]:
    """Install the handler, but for signals that are ignored (`nohup`); returns the handlers before.

    In other threads than the main one it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, receive)
    return before


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Heed signals within the block, and tell the user of the one that ended it, unless a parent does so.

    Raises:
        Interrupted: a signal came.
    """
    if _process.heeds:
        yield
        return
    _process.heeds = True
    before = install()
    try:
        with interruptible():
            yield
    except Interrupted as error:
        if not _parent_tells():
            with contextlib.suppress(OSError):  # after SIGHUP there is no terminal
                print(f"error: {error}", file=sys.stderr, flush=True)
            if _process.parent is not None:
                os._exit(128 + error.signal_number)  # nobody waits for this worker
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        _process.heeds = False
        if _process.parent is None:
            _process.received = None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` where a signal falls within the block, or at its beginning for one that came before."""
    before, _process.busy = _process.busy, True
    try:
        with _raising(True):
            yield
    finally:
        _process.busy = before


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Only record a signal that comes within the block; it is raised after it."""
    with _raising(False):
        yield


def listen(listener: Callable[[int], None]) -> None:
    """Call a function with the number of the first signal, before anything else is done."""
    _process.listeners.append(listener)


@contextlib.contextmanager
def told(listener: Callable[[int], None]) -> Iterator[None]:
    """`listen` within the block."""
    listen(listener)
    try:
        yield
    finally:
        _process.listeners.remove(listener)


@contextlib.contextmanager
def _raising(raises: bool) -> Iterator[None]:
    before, _process.raises = _process.raises, raises
    try:
        raise_if_received()
        yield
    except Exception:
        raise_if_received()
        raise
    finally:
        _process.raises = before
    raise_if_received()


def raise_if_received() -> None:
    """Raise `Interrupted` after a signal, outside of `uninterrupted`.

    It is asked where exceptions are handled, too: a library may have made another one of it.
    """
    if _process.raises and _process.received is not None:
        raise Interrupted(_process.received)


def follow(parent: int) -> None:
    """Let this process, a worker, end within 5 seconds after its parent, saving first; a thread looks for the parent.

    Args:
        parent: its process id.
    """
    install()
    _process.parent = parent
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    if _process.received is None:
        os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + SAVE_S
    while _process.busy and time.monotonic() < deadline:
        time.sleep(0.1)
    os._exit(128 + signal.SIGTERM)
