"""A real Slurm, in daemons of our own; its script says what has to be installed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("local-slurm")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING = ("slurmdbd", "mariadbd")


class Slurm:
    """A cluster of one node, or of several.

    Args:
        folder: of its daemons.
        settings: of the script: `ACCOUNTING="0"`, `CPUS="4"`, …

    Attributes:
        environment: of a user at its login node.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.settings = {"CPUS": "4", **settings}
        self.commands: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Start its daemons, which takes seconds."""
        with (self.folder / "started.log").open("w") as log:  # a pipe would wait for the daemons
            environment = {**os.environ, **self.settings}
            subprocess.run([SCRIPT, "start", self.folder], env=environment, stdout=log, stderr=log, check=True)

    def stop(self) -> None:
        """Cancel all jobs, and end the daemons and the commands that a failed test has left."""
        for command in self.commands:
            command.kill()
            command.wait()
        subprocess.run([SCRIPT, "stop", self.folder], capture_output=True, check=False)

    def tell(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def command(self, *arguments: str) -> list[str]:
        """A command of ours."""
        return [sys.executable, "-m", "capsbench", *arguments]

    def run(self, folder: Path, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command of ours in a folder, to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def popen(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of ours in a folder; what it says goes to `stdout` and `stderr` there."""
        with (folder / "stdout").open("wb") as printed, (folder / "stderr").open("wb") as said:
            command = subprocess.Popen(
                self.command(*arguments), cwd=folder, env=self.environment, stdout=printed, stderr=said
            )
        self.commands.append(command)
        return command


@pytest.fixture(scope="module")
def start_slurm() -> Iterator[Callable[..., Slurm]]:
    """Starts clusters, which end with the module."""
    started = []
    places = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))

    def start(**settings: str) -> Slurm:
        needed = PROGRAMS + (ACCOUNTING if settings.get("ACCOUNTING") != "0" else ())
        if missing := [program for program in needed if shutil.which(program, path=places) is None]:
            pytest.skip(
                f"needs Slurm: apt-get install slurm-wlm munge slurmdbd mariadb-server ({missing[0]} is missing)"
            )
        slurm = Slurm(Path(tempfile.mkdtemp(prefix="slurm")), settings)  # paths of sockets must be short
        started.append(slurm)
        slurm.start()
        return slurm

    yield start
    for slurm in started:
        slurm.stop()
        shutil.rmtree(slurm.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def slurm(start_slurm: Callable[..., Slurm]) -> Slurm:
    """A cluster with accounting, so that sacct works."""
    return start_slurm()


@pytest.fixture(scope="module")
def slurm_without_accounting(start_slurm: Callable[..., Slurm]) -> Slurm:
    """A cluster that has no sacct."""
    return start_slurm(ACCOUNTING="0")
