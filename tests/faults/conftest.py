"""Faults are counted as their tests run: `--reliability PAGE` fills the page's table with what was tried and seen.

A test's docstring is its row, "FAULT: EXPECTED."; tests without one share a row, that of their file. A test that tries
many times in itself says so with the fixture `tally`.
"""

import contextlib
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest

from capsbench.runs import RunFolder

ROW = "row"
TALLY = "tally"
BLOCK = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)

Tally = Callable[..., None]
WARM = Path(__file__).with_name("warm.py")
FORKS = multiprocessing.get_context("forkserver")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, help="a page whose table of faults is filled")


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Say how often a fault was tried, how often it ended as expected, and what else was seen."""

    def say(tries: int, held: int, seen: str = "") -> None:
        record_property(TALLY, [tries, held, seen])

    return say


class Family:
    """Commands in a folder, and all processes that come of them.

    Args:
        folder: their working directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "stderr"
        self.environment = {**os.environ, "CAPSBENCH_FAMILY": uuid.uuid4().hex, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; what it says goes to a file, since a pipe would wait for its children."""
        command = [sys.executable, "-m", "capsbench", *arguments]
        with self.said.open("wb") as said, (self.folder / "stdout").open("wb") as printed:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=printed, stderr=said)

    def fork(self, *arguments: str) -> BaseProcess:
        """Start a command in a process that has imported everything, which takes longer than a small run."""
        FORKS.set_forkserver_preload(["capsbench.commands.train", "capsbench.launch.single_run"])
        words = ["", str(self.folder), *arguments]
        program = f"import runpy, sys; sys.argv = {words!r}; runpy.run_path({str(WARM)!r}, run_name='__main__')"
        process = FORKS.Process(target=exec, args=(program, {}))
        process.start()
        return process

    def alive(self) -> set[int]:
        """The processes that run."""
        mark = f"CAPSBENCH_FAMILY={self.environment['CAPSBENCH_FAMILY']}".encode()
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended meanwhile, or not ours
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.add(int(process.name))
        return found

    def ends_within(self, seconds: float) -> bool:
        """Whether nothing is left of it after so long."""
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.alive()

    @staticmethod
    def catches(process: int, number: signal.Signals) -> bool:
        """Whether a process has a handler for a signal, or has ended."""
        with contextlib.suppress(OSError):
            mask = Path(f"/proc/{process}/status").read_text().partition("SigCgt:")[2].split()
            return not mask or bool(int(mask[0], 16) >> (number - 1) & 1)
        return True

    def workers(self) -> set[int]:
        """The processes that train a run now."""
        sessions = [RunFolder(path.parent).read_session() for path in self.folder.rglob("session.json")]
        return {session.pid for session in sessions if session.pid and Path(f"/proc/{session.pid}").exists()}


@pytest.fixture(scope="session")
def families() -> Iterator[Callable[[Path], Family]]:
    """Makes families; what is left of them at the end is killed."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("looks for processes as Linux shows them")
    made = []

    def make(folder: Path) -> Family:
        made.append(Family(folder))
        return made[-1]

    yield make
    for process in {process for family in made for process in family.alive()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def family(families: Callable[[Path], Family], tmp_path: Path) -> Family:
    """Commands in an empty folder."""
    return families(tmp_path)


def pytest_configure(config: pytest.Config) -> None:
    page = config.getoption("--reliability", None)
    if page is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(page), "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.get_closest_marker("faults") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.user_properties.append((ROW, row_of(item)))


def row_of(item: pytest.Item) -> list[str]:
    """The file, the fault and what is expected."""
    own, shared = (_first_paragraph(getattr(item, name, None)) for name in ("function", "module"))
    fault, colon, expected = (own if ": " in own else shared).rstrip(".").partition(": ")
    return [item.nodeid.partition("::")[0], fault, expected if colon else "what the tests say"]


def _first_paragraph(thing: object) -> str:
    return " ".join((getattr(thing, "__doc__", None) or "").split("\n\n")[0].split())


@dataclass
class Row:
    """What is known of a fault."""

    tries: int = 0
    held: int = 0
    seen: str = ""


class Table:
    """Counts faults, and writes the table of a page.

    Args:
        page: with a block that begins with `<!-- faults -->` and ends with `<!-- end -->`.
    """

    def __init__(self, page: Path) -> None:
        self.page = page
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if ROW not in properties or report.skipped or not (report.when == "call" or report.failed):
            return
        row = self.rows.setdefault(tuple(properties[ROW]), Row())
        tries, held, seen = properties.get(TALLY, [1, int(report.passed), ""])
        row.tries, row.held = row.tries + tries, row.held + held
        row.seen = "; ".join(dict.fromkeys(filter(None, (row.seen, seen))))

    def pytest_sessionfinish(self) -> None:
        if self.rows:
            text = self.page.read_text(encoding="utf-8")
            table = "\n".join(self._lines())
            self.page.write_text(BLOCK.sub(rf"\1\n{table}\n\2", text), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        import torch

        from capsbench.reports.formats import emphasized, to_markdown
        from capsbench.runs.environment import describe_device, versions

        rows = sorted(self.rows.items())
        yield to_markdown(
            pd.DataFrame(
                {
                    "Fault": [fault for (_, fault, _), _ in rows],
                    "Tries": [str(row.tries) for _, row in rows],
                    "Expected": [expected for (_, _, expected), _ in rows],
                    "Seen": [f"{row.held} of {row.tries}" + (f"; {row.seen}" if row.seen else "") for _, row in rows],
                }
            )
        )
        tries, held = sum(row.tries for _, row in rows), sum(row.held for _, row in rows)
        minutes = (time.monotonic() - self.began) / 60
        yield emphasized(
            f"{held} of {tries} as expected. make test-faults, {datetime.now(UTC).date()}, {minutes:.0f} minutes; "
            f"{os.cpu_count()} cores, {describe_device(torch.device('cpu')).split(', ', 2)[2]}, {platform.system()}, "
            f"Python {versions()['python']}, PyTorch {versions()['torch']}."
        )
