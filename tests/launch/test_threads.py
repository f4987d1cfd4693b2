"""How long waiting threads spin: limited by every entry to the platform, by none to the library."""

import os
import subprocess
import sys

import pytest

from capsbench.launch.threads import SPIN_COUNT, let_threads_sleep

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_count(code: str, **environment: str) -> str:
    """GOMP_SPINCOUNT in a process of its own after some code has run, or None."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", f"import os\n{code}\nprint(os.environ.get('GOMP_SPINCOUNT'))"]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_a_command_limits_it_before_torch_is_loaded() -> None:
    code = """
import sys
from capsbench.commands.cli import main
main(["--version"])
assert "torch" not in sys.modules
"""
    assert spin_count(code) == SPIN_COUNT


def test_a_ray_worker_limits_it_before_torch_is_loaded() -> None:
    code = """
import sys
from capsbench.launch.ray import enter_working_directory
os.environ["CAPSBENCH_WORKING_DIRECTORY"] = "."
enter_working_directory()
assert "torch" not in sys.modules
"""
    assert spin_count(code) == SPIN_COUNT


def test_the_library_leaves_it_alone() -> None:
    assert spin_count("import capsbench.routing, capsbench.models") == "None"


def test_a_users_own_choice_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    let_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert "GOMP_SPINCOUNT" not in os.environ
