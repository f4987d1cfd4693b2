"""What sticks to a run is its own failure; what its machine, its user or its data lack is tried again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.imports import RequirementCache

from capsbench.data import Digits
from capsbench.launch.errors import blames_machine, describe, exit_code

Run = Callable[..., Path]
SHORT = ("train", "data.subset=64", "data.test_subset=32", "data.batch_size=16", "trainer.max_epochs=1")


def fails(capsbench: Run, *arguments: str) -> str:
    """The line that a command fails with."""
    with pytest.raises(SystemExit) as error:
        capsbench(*arguments)
    assert error.value.code in (1, 2)
    return str(error.value)


def state(capsbench: Run, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `capsbench status` tells of the one run of a command."""
    capsys.readouterr()
    capsbench("status", *arguments[1:], "--json")
    (run,) = json.loads(capsys.readouterr().out)
    return run


def break_at(monkeypatch: pytest.MonkeyPatch, batch: int, error: Exception) -> None:
    """Raise an error where a training batch is made."""
    made = iter(range(1_000_000))
    original = Digits.train_images

    def train_images(self: Digits, images: torch.Tensor, draw: Any) -> torch.Tensor:
        if next(made) == batch:
            raise error
        return original(self, images, draw)

    monkeypatch.setattr(Digits, "train_images", train_images)


FULL = OSError(28, "No space left on device", "resume.ckpt")
MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize("error", [FULL, MEMORY], ids=["disk", "memory"])
def test_what_the_machine_lacks_is_tried_again(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, 2, error)
        said = fails(capsbench, *SHORT)
    assert str(error.args[-1]) in said
    stopped = state(capsbench, capsys, *SHORT)
    assert stopped["state"] == "interrupted"
    assert said.endswith(stopped["cause"])
    assert not list(Path("outputs").rglob("error.txt"))
    capsbench(*SHORT)
    assert state(capsbench, capsys, *SHORT)["state"] == "done"
    assert not list(Path("outputs").rglob("stopped.txt"))


def test_an_error_of_the_training_sticks_until_a_retry_is_asked_for(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, 2, IndexError("index 9 is out of bounds"))
        fails(capsbench, *SHORT)
    assert state(capsbench, capsys, *SHORT)["state"] == "failed"
    (record,) = Path("outputs").rglob("error.txt")
    os.utime(record, (0, 86_400 * 366))
    assert "failed on 1971-01-02: " in (said := fails(capsbench, *SHORT))
    assert said.endswith(
        "index 9 is out of bounds; HYDRA_FULL_ERROR=1 shows where; it was not tried again, retry_failed=true does so"
    )
    capsbench(*SHORT, "retry_failed=true")
    assert state(capsbench, capsys, *SHORT)["state"] == "done"
    assert not record.exists()


def test_nan_sticks_even_in_the_first_step(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    diverging = (*SHORT, "optim.optimizer.lr=1e30")
    fails(capsbench, *diverging)
    assert state(capsbench, capsys, *diverging)["state"] == "failed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_bars_nothing(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the trainer cannot use its settings: No supported gpu" in fails(
        capsbench, *SHORT, "trainer.accelerator=gpu"
    )
    assert state(capsbench, capsys, *SHORT)["state"] == "missing"
    capsbench(*SHORT, "trainer.accelerator=cpu")
    assert state(capsbench, capsys, *SHORT)["state"] == "done"


def own_router(text: str, folder: Path = Path()) -> list[str]:
    """Write a module with a router of the user's own, and its choice; the words that choose it."""
    module = f"own_{abs(hash((text, str(Path.cwd()))))}"
    (folder / f"{module}.py").write_text(text)
    choice = folder / "my_conf" / "router" / "mean.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(f"_target_: {module}.MeanRouting\n_partial_: true\n")
    return ["--config-dir", str(folder / "my_conf"), "router=mean"]


ROUTER = """
from capsbench.routing import Capsules, Router, squash, squashed_norm

class MeanRouting(Router):
    def route(self, votes, activations=None):
        s = votes.mean(dim=1)
        return Capsules(squash(s), activations=squashed_norm(s))
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_to_be_found", "there is no module nowhere_to_be_found: install its package"),
        ("class MeanRouting(:", "invalid syntax"),
        ("", "there is no MeanRouting in own_"),
        (ROUTER.replace("votes.mean", "votes.meen"), "meen"),
        (ROUTER.replace("Router)", "Router, metaclass=3)"), "int"),
    ],
    ids=["import", "syntax", "name", "typo", "type"],
)
def test_an_error_before_the_first_step_is_no_failed_run(
    capsbench: Run, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    words = own_router(text)
    line = fails(capsbench, *SHORT, *words)
    assert said in line
    assert "\n" not in line
    told = state(capsbench, capsys, *SHORT, *words)
    assert told["state"] == "missing"
    assert said in told["cause"]
    assert not any(path.name in ("error.txt", "config.yaml") for path in Path("outputs").rglob("*"))
    Path(next(Path().glob("own_*.py"))).write_text(ROUTER)
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    capsbench(*SHORT, *words)
    assert state(capsbench, capsys, *SHORT, *words)["state"] == "done"


def test_an_own_module_beside_the_choices(capsbench: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    words = own_router(ROUTER, tmp_path / "project")
    (path,) = capsbench(*SHORT, *words).rglob("result.json")
    assert state(capsbench, capsys, *SHORT, *words)["state"] == "done"
    capsbench("evaluate", f"run={path.parent}", "--config-dir", words[1])
    capsbench("benchmark", "layer", "--config-dir", words[1], "router=mean", "repetitions=1", "batch=2")


@pytest.mark.faults
def test_workers_find_an_own_module(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    words = own_router(ROUTER, tmp_path / "project")
    command = [sys.executable, "-m", "capsbench", *SHORT, *words, "-m", "seed=1,2", "launcher=local"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(list(tmp_path.rglob("result.json"))) == 2


def test_a_module_that_is_nowhere_is_named(capsbench: Run) -> None:
    words = own_router(ROUTER)
    (module,) = Path().glob("own_*.py")
    module.unlink()
    assert f"there is no module {module.stem}: install its package, put {module.stem}.py beside the directory of " in (
        said := fails(capsbench, *SHORT, *words)
    )
    assert said.endswith("--config-dir, or name its folder in PYTHONPATH")


SWEEP = (*SHORT, "-m", "optim.optimizer.lr=1e-3,1e30")


def test_a_sweep_says_that_an_old_failure_was_not_tried_again(
    capsbench: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(capsbench, *SWEEP) == "error: 1 of 2 runs failed; retry_failed=true tries them again"
    (record,) = Path("outputs").rglob("error.txt")
    os.utime(record, (0, 86_400 * 366))
    capsys.readouterr()
    assert fails(capsbench, *SWEEP) == (
        "error: 1 of 2 runs failed; 1 of them before (last on 1971-01-02), which were not tried again; "
        "retry_failed=true tries them again"
    )
    assert "failed on 1971-01-02" in capsys.readouterr().out
    assert "before" not in fails(capsbench, *SWEEP, "retry_failed=true")


def test_a_sweep_names_what_the_machine_lacks(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, 1, FULL)
        said = fails(capsbench, *SHORT, "-m", "seed=1,2")
    assert said == "error: 1 of 2 runs failed; mend the cause, then give the command again"
    assert "cannot use resume.ckpt: No space left on device" in capsys.readouterr().err
    capsbench(*SHORT, "-m", "seed=1,2")


def test_causes_are_told_once_each(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Digits, "train_images", lambda *_: (_ for _ in ()).throw(FULL))
    assert "3 of 3 runs failed, each because" in fails(capsbench, *SHORT, "-m", "seed=1,2,3")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert " and 2 more: cannot use resume.ckpt" in line


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at inline_container.cc:9] . PytorchStreamWriter failed writing file data/0"),
        ModuleNotFoundError("No module named 'wandb'", name="wandb"),
    ],
    ids=lambda error: str(error)[-20:],
)
def test_what_blames_the_machine(error: Exception) -> None:
    assert blames_machine(error)
    assert not blames_machine(IndexError(str(error))) or isinstance(error, RuntimeError)


def test_wandb_that_is_not_installed_is_one_line(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", RequirementCache("wandb>=999"))
        said = fails(capsbench, *SHORT, "logger=wandb")
    assert said == "error: wandb is not installed: pip install wandb"
    capsbench(*SHORT)


@pytest.mark.parametrize(
    ("package", "what"),
    [("ray", "'capsbench[ray]'"), ("submitit", "'capsbench[slurm]'"), ("triton", "triton"), ("wandb", "wandb")],
)
def test_every_optional_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, what: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError) as error:
        __import__(package)
    assert describe(error.value) == f"{package} is not installed: pip install {what}"


def test_a_setting_that_no_class_knows_is_wrong_usage() -> None:
    with pytest.raises(TypeError) as error:
        Digits(colour="red")  # type: ignore[call-arg]
    assert exit_code(error.value) == 2
    assert describe(error.value).endswith("has no setting colour; capsbench train --cfg job shows those that there are")


def test_an_unexpected_error_says_where_to_look() -> None:
    assert describe(KeyError("colour")) == "unexpected KeyError: 'colour'; HYDRA_FULL_ERROR=1 shows where"
