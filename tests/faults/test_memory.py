"""Memory that runs out: one line that says how large batches were and what to lower."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from capsbench.data import Digits

Run = Callable[..., Path]
ERRORS = {
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total capacity"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
    "numpy": np.exceptions.__dict__.get("_ArrayMemoryError", MemoryError)("Unable to allocate 3 TiB for an array"),
    "python": MemoryError(),
    "system": OSError(12, "Cannot allocate memory"),
    "c++": RuntimeError("std::bad_alloc"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_the_line_names_batches_and_what_to_lower(capsbench: Run, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def train_images(*_: object) -> torch.Tensor:
        raise ERRORS[kind]

    monkeypatch.setattr(Digits, "train_images", train_images)
    with pytest.raises(SystemExit) as ended:
        capsbench("train", "trainer=smoke", "data.batch_size=77", "data.eval_batch_size=99")
    assert ended.value.code == 1
    line = str(ended.value)
    assert "\n" not in line
    assert line.startswith(
        "error: out of memory with data.batch_size=77 and data.eval_batch_size=99: lower them, or choose a smaller "
        "arch or trainer.precision=bf16-mixed ("
    )


def test_another_error_keeps_its_words(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_images(*_: object) -> torch.Tensor:
        raise RuntimeError("the sensor is on fire")

    monkeypatch.setattr(Digits, "train_images", train_images)
    with pytest.raises(SystemExit, match=r"^error: the sensor is on fire$"):
        capsbench("train", "trainer=smoke")


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_memory_that_really_runs_out(tmp_path: Path) -> None:
    code = (
        "import resource, torch, lightning, capsbench.launch.single_run\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)\n"
        "from capsbench.commands import cli\n"
        "cli.main(['train', 'data.batch_size=1400', 'arch=capsnet', 'trainer.enable_progress_bar=false'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: out of memory with data.batch_size=1400 and data.eval_")
