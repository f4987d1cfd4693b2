"""The process of a job: what it does when Slurm says that time is nearly up."""

import subprocess
import sys

PROGRAM = """
import os, signal
from capsbench.launch.slurm_job import WORD, end_at_once_when_requeued

def requeue(number, frame):
    raise SystemExit(122)

requeue.__module__ = "submitit.core.job_environment"
signal.signal(WORD, requeue)
end_at_once_when_requeued()
print("kept")
try:
    os.kill(os.getpid(), WORD)
except BaseException:
    print("made another error of it")
"""


def test_a_requeue_ends_the_process_whatever_it_falls_into() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (122, "kept\n", "")
