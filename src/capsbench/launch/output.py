"""What a command prints. Nobody may be there to read it, or only ASCII: that stops no run."""

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

LEFT = (errno.EPIPE, errno.EIO)
"""How the system says that the reader is gone: `| head`, a terminal that was closed."""


class _Output(io.FileIO):
    """A file to which every write succeeds.

    Attributes:
        error: of the last write that was lost.
    """

    error: OSError | None = None

    def write(self, data) -> int:  # type: ignore[no-untyped-def]  # bytes-like, as in FileIO
        try:
            return super().write(data) or len(data)  # None: a pipe that does not wait is full
        except OSError as error:
            self.error = error
            return len(data)


@contextlib.contextmanager
def unbreakable_output() -> Iterator[None]:
    """Let nothing that the body prints raise, be it by print, logging, rich or a progress bar.

    What the terminal cannot show is printed as \\u2013; what cannot be written at all is dropped. Streams that are not
    the process's own files, such as a notebook's, are left as they are.
    """
    before = sys.stdout, sys.stderr
    _open_closed()
    sys.stdout, sys.stderr = map(_unbreakable, before)
    for handler in logging.root.handlers:  # of a launcher's worker, where Hydra has set up logging
        if isinstance(handler, logging.StreamHandler) and handler.stream in before:
            handler.stream = dict(zip(before, (sys.stdout, sys.stderr), strict=True))[handler.stream]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def lost_output() -> str | None:
    """Why some of standard output could not be written, such as "No space left on device".

    None where all was written, or where the reader had enough.
    """
    sys.stdout.flush()
    error = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "error", None)
    return None if error is None or error.errno in LEFT else os.strerror(error.errno)


def _open_closed() -> None:
    """Open those of the files 0, 1 and 2 that were closed, so that none of ours gets their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _unbreakable(stream: Any) -> Any:
    if stream is None:  # it was closed
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, "raw", None), _Output):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    buffer = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))
    text: Any = io.TextIOWrapper(buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)
    text.mode = stream.mode  # as open() does
    return text
