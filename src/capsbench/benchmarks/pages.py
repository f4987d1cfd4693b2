"""The same benchmark with dear and with cheap pages of memory, each in a process of its own.

Linux clears each page of memory that it hands out. A large tensor costs thousands of page faults with the usual pages
of 4 kB, and a few with transparent huge pages of 2 MB. PyTorch asks for those where `THP_MEM_ALLOC_ENABLE=1` is set
when a process first allocates memory.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from capsbench.benchmarks.measure import Measurement

VARIABLE = "THP_MEM_ALLOC_ENABLE"
VALUES = {"dear": "0", "cheap": "1"}
BOTH = "both"
SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Holds "always [madvise] never": by default, huge pages go to those that ask for them."""


def kinds(pages: str) -> tuple[str, ...]:
    """Name the kinds of pages that were asked for, if this machine has them.

    Raises:
        ValueError: there is no such kind, or the system gives none of that kind.
    """
    asked = tuple(VALUES) if pages == BOTH else (pages,)
    if not set(asked) <= set(VALUES):
        raise ValueError(f"pages must be {', '.join(VALUES)} or {BOTH}, got {pages}")
    mode = SYSTEM.read_text().partition("[")[2].partition("]")[0] if SYSTEM.exists() else "never"
    for kind, without in (("cheap", "never"), ("dear", "always")):
        if kind in asked and mode == without:
            raise ValueError(f"pages={pages} needs {SYSTEM} to be madvise, and here it is {mode}; leave pages out")
    return asked


def with_pages(kind: str, name: str, words: Sequence[str]) -> list[Measurement]:
    """Run a benchmark in a new process with such pages.

    Args:
        kind: "cheap" or "dear".
        name: of the benchmark.
        words: its settings and switches.

    Raises:
        ChildProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "capsbench", "benchmark", name, *words, f"output_dir={folder}"]
        done = subprocess.run(command, env=os.environ | {VARIABLE: VALUES[kind]}, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise ChildProcessError(f"the benchmark with {kind} pages ended with exit code {done.returncode}")
        record = json.loads(Path(folder, "benchmarks", f"{name}.json").read_text(encoding="utf-8"))
    return [Measurement(**one | {"pages": kind}) for one in record["measurements"]]
