"""Runs that are interrupted, killed, fail, or meet another process at the same grid; `make test-engines` runs them."""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from capsbench import signals
from capsbench.commands import cli
from capsbench.data import Digits
from capsbench.launch.build import restore
from capsbench.runs import Result, RunFolder, State
from capsbench.training import ClassificationModule

RUN = (
    *(
        "train",
        "trainer.max_epochs=2",
        "data.subset=200",
        "data.batch_size=32",
        "data.augmentation.crop_padding=2",
        "decoder=deconv",
    ),
    *("optim=adam_cosine", "trainer.enable_progress_bar=false", "checkpoint_minutes=0"),
)
STEPS = 14  # in two epochs of seven


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the runs here; other tests look at them."""
    monkeypatch.setattr(importlib.import_module("capsbench.runs.train_and_test"), "write_pictures", lambda *_: [])


Command = Callable[..., None]

pytestmark = pytest.mark.engines


def only_result(root: Path | str = "outputs") -> Result:
    (path,) = Path(root).rglob("result.json")
    return Result.load(path.parent)


def what_counts(root: Path | str) -> tuple[Any, ...]:
    """Everything a run ends with, but for speeds."""
    result = only_result(root)
    metrics = {name: value for name, value in result.metrics.items() if "per_" not in name}
    (checkpoint,) = Path(root).rglob("last.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    weights = state["state_dict"]
    moments = [value for entry in state["optimizer_states"][0]["state"].values() for value in entry.values()]
    return metrics, list(result.history), result.epochs, result.steps, weights, moments


def assert_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    assert first[:4] == second[:4]
    assert all(first[4][name].equal(tensor) for name, tensor in second[4].items())
    assert all(a.equal(b) for a, b in zip(first[5], second[5], strict=True))


def signal_at(monkeypatch: pytest.MonkeyPatch, batch: int, number: signal.Signals) -> None:
    """Send this process a signal while it makes its so-and-so-many-th training batch."""
    made = iter(range(1_000_000))
    original = Digits.train_images

    def train_images(self: Digits, images: torch.Tensor, draw: Any) -> torch.Tensor:
        if next(made) == batch:
            os.kill(os.getpid(), number)
        return original(self, images, draw)

    monkeypatch.setattr(Digits, "train_images", train_images)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    root = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["capsbench", *RUN])
        cli.main()
    return what_counts(root)


@pytest.mark.parametrize(
    ("batch", "number"),
    [(batch, signal.SIGTERM) for batch in (0, 3, 6, 7, 13)] + [(5, signal.SIGINT)],
)
def test_resumed_is_as_if_never_interrupted(
    capsbench: Command,
    uninterrupted: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    batch: int,
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(patch, batch, number)
        with pytest.raises(SystemExit) as stopped:
            capsbench(*RUN)
    assert stopped.value.code == 128 + number
    assert f"interrupted by {number.name}; the same command continues it" in capsys.readouterr().err
    assert signal.getsignal(number) == before
    assert not list(Path("outputs").rglob("result.json"))
    (config,) = Path("outputs").rglob("config.yaml")
    assert State.of(RunFolder(config.parent)).name == "interrupted"
    capsbench(*RUN)
    assert "resumed" in capsys.readouterr().out
    assert_same(what_counts("outputs"), uninterrupted)
    assert not list(Path("outputs").rglob("resume*.ckpt"))


def test_a_run_with_everything_that_an_optimizer_remembers_is_resumed(
    capsbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = (
        "optim=adam_keras",
        "optim.decay=kernels",
        "optim.optimizer.weight_decay=0.01",
        "loss=cross_entropy_learned",
    )
    run = *(word for word in RUN if not word.startswith("optim=")), *choices
    capsbench(*run, f"output_dir={tmp_path}/whole")
    with monkeypatch.context() as patch:
        signal_at(patch, 4, signal.SIGTERM)
        with pytest.raises(SystemExit):
            capsbench(*run)
    capsbench(*run)
    assert_same(what_counts("outputs"), what_counts(tmp_path / "whole"))


def test_a_signal_that_comes_twice_at_once_is_one(
    capsbench: Command, uninterrupted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C reaches the ranks of a run on several devices from the terminal, and from their parent."""
    with monkeypatch.context() as patch:
        count_batches(patch, {8: terminate_twice})
        with pytest.raises(SystemExit):
            capsbench(*RUN)
    assert list(Path("outputs").rglob("resume.ckpt"))
    capsbench(*RUN)
    assert_same(what_counts("outputs"), uninterrupted)


def test_a_second_signal_exits_at_once(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "ECHO_S", -1.0)
    monkeypatch.setattr(os, "_exit", sys.exit)
    count_batches(monkeypatch, {3: terminate_twice})
    with pytest.raises(SystemExit) as stopped:
        capsbench(*RUN)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "interrupted by" not in capsys.readouterr().err, "nothing was finished or saved"


def test_interrupted_twice_and_the_log_is_whole(
    capsbench: Command, uninterrupted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in (8, 2):
        with monkeypatch.context() as patch:
            signal_at(patch, batch, signal.SIGTERM)
            with pytest.raises(SystemExit):
                capsbench(*RUN)
    capsbench(*RUN)
    assert_same(what_counts("outputs"), uninterrupted)
    (path,) = Path("outputs").rglob("metrics.csv")
    logged = pd.read_csv(path).groupby("epoch").last()
    assert logged["train/loss"].dropna().tolist() == pytest.approx([row["train/loss"] for row in only_result().history])


def test_interrupted_while_it_evaluates(
    capsbench: Command, uninterrupted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Digits.test_images
    calls = iter(range(1_000_000))

    def test_images(self: Digits, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 32 and next(calls) == 1:  # the sanity check before training is the first
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Digits, "test_images", test_images)
        with pytest.raises(SystemExit):
            capsbench(*RUN)
    capsbench(*RUN)
    assert_same(what_counts("outputs"), uninterrupted)


def test_killed_at_any_moment(uninterrupted: tuple[Any, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "capsbench", *RUN]
    for seconds in (0.3, 1.0):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("resume.ckpt")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds)
        process.kill()
        process.wait()
        (config,) = tmp_path.rglob("config.yaml")
        state = State.of(RunFolder(config.parent))
        assert state.name == "interrupted"
        assert "was killed" in (state.cause or "")
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert_same(what_counts(tmp_path), uninterrupted)


def test_a_run_that_another_process_is_at_is_left_to_it(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("train", "-m", "trainer=smoke", "seed=1,2")
    first, second = sorted(path.parent for path in Path("outputs").rglob("result.json"))
    (first / "result.json").unlink()
    with filelock.FileLock(first / "run.lock"):
        capsbench("train", "-m", "trainer=smoke", "seed=1,2")
        assert State.of(RunFolder(first)).name == "running"
    printed = capsys.readouterr().out
    assert f"{first} is being trained by another process, which is left to it" in printed
    assert f"{second}: finished before, skipped" in printed
    assert "1 of 2 runs are being trained by another process" in printed
    assert State.of(RunFolder(first)).name == "interrupted"


def test_two_sweeps_share_a_grid(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "capsbench", "train", "-m", "trainer=smoke", "data.subset=64", "seed=1,2,3"]
    sweeps = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = "".join(sweep.communicate(timeout=300)[0] for sweep in sweeps)
    assert all(sweep.returncode == 0 for sweep in sweeps), printed
    assert printed.count(": training\n") == 3
    assert len(list(tmp_path.rglob("result.json"))) == 3


def fails(capsbench: Command, *arguments: str) -> str:
    with pytest.raises(SystemExit) as error:
        capsbench(*arguments)
    return str(error.value)


def test_data_that_was_moved_is_the_same_data(
    capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """CIFAR-10 as JPEG files lies among the data sets; where these are kept makes no other run."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(2):
                path = tmp_path / "here" / "cifar10-jpeg" / split / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    capsbench("train", "trainer=smoke", "data=cifar10_jpeg", "data_dir=here")
    (tmp_path / "here").rename(tmp_path / "there")
    capsys.readouterr()
    capsbench("train", "trainer=smoke", "data=cifar10_jpeg", "data_dir=there")
    assert "finished before, skipped" in capsys.readouterr().out
    (folder,) = (path.parent for path in Path("outputs").rglob("result.json"))
    assert restore(RunFolder(folder), data_dir="there").data.num_classes == 2


FAILING = ("train", "-m", "trainer=smoke", "router=dynamic", "optim.optimizer.lr=1e+30,2e-3")


def test_a_failure_is_on_file_and_the_sweep_goes_on_and_names_it(
    capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(capsbench, *FAILING)
    assert said == "error: 1 of 2 runs failed; retry_failed=true tries them again"
    (failed,) = Path("outputs").rglob("error.txt")
    cause, _, traceback = failed.read_text().partition("\n")
    assert "not finite" in cause
    assert "Traceback" in traceback
    assert f"failed: {failed.parent}: {cause}\n" in capsys.readouterr().err
    assert only_result().settings["optim"]["optimizer"]["lr"] == 2e-3
    assert State.of(RunFolder(failed.parent)) == State("failed", cause=cause)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("seed=1,-5", "seed must be an integer from 0 to 4294967295, got -5"),
        ("data.batch_size=32,32.5", "data.batch_size must be a whole number such as 64, got 32.5"),
        ("trainer.max_steps=0", "trainer.max_steps must be at least 1, or -1 for no limit, got 0"),
        ("router=fm,fmm", "there is no router=fmm; did you mean fm or fm_sum?"),
    ],
)
def test_a_sweep_with_a_wrong_setting_is_refused_before_anything_is_trained(
    capsbench: Command, wrong: str, said: str
) -> None:
    assert fails(capsbench, "train", "-m", "trainer=smoke", wrong).startswith(f"error: {said}")
    assert not list(Path().rglob("config.yaml"))


def test_a_cause_that_all_share_is_said_once_more(capsbench: Command) -> None:
    said = fails(capsbench, "train", "-m", "trainer=smoke", "arch.pose_dim=12", "seed=1,2")
    cause = "arch.pose_dim must be a square number for the matrix transform (4, 9, 16, 25 …), got 12; "
    assert said.startswith(f"error: 2 of 2 runs failed, each because {cause}")
    assert said.endswith("; mend the cause, then give the command again")


def test_a_sweep_names_a_damaged_result(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ("train", "-m", "trainer=smoke", "seed=1,2")
    capsbench(*sweep)
    damaged = min(Path("outputs").rglob("result.json"))
    damaged.write_text("{}")
    assert fails(capsbench, *sweep) == "error: 1 of 2 runs failed; retry_failed=true tries them again"
    assert f"failed: {damaged.parent}: {damaged} is no valid result" in capsys.readouterr().err


def test_a_failed_run_is_tried_again_only_when_asked(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        count_batches(patch, {1: lambda: [][1]})
        assert "index out of range" in fails(capsbench, "train", "trainer=smoke")
    assert "index out of range; HYDRA_FULL_ERROR=1 shows where; it was not tried again, retry_failed=true does so" in (
        fails(capsbench, "train", "trainer=smoke")
    )
    capsbench("train", "trainer=smoke", "retry_failed=true")
    assert only_result().smoke
    assert not list(Path("outputs").rglob("error.txt"))


def test_status_in_words_and_as_json(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    fails(capsbench, *FAILING)
    capsys.readouterr()
    capsbench("status", "trainer=smoke", "router=dynamic,fm", "seed=1,2", "--json")
    (folder,) = (path.parent for path in Path("outputs").rglob("error.txt"))
    runs = json.loads(capsys.readouterr().out)
    assert [(run["router"], run["seed"]) for run in runs] == [("dynamic", 1), ("dynamic", 2), ("fm", 1), ("fm", 2)]
    assert {run["state"] for run in runs} == {"missing"}
    capsbench("status", *FAILING[2:], "--json")
    failed, done = json.loads(capsys.readouterr().out)
    assert (failed["state"], failed["folder"], failed["others"]) == (
        *("failed", str(folder)),
        "trainer=smoke optim.optimizer.lr=1e+30",
    )
    assert (done["state"], set(done["metrics"]) >= {"test/accuracy"}) == ("done", True)
    capsbench("status", *FAILING[2:])
    printed = capsys.readouterr().out
    assert "2 runs, 1 done (1 did not learn), 1 failed" in printed
    assert "lr=1e+30" in printed
    assert "trainer=smoke" not in printed  # all have it
    assert "%" in printed


def test_status_of_a_run_that_was_interrupted(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        signal_at(patch, 8, signal.SIGTERM)
        with pytest.raises(SystemExit):
            capsbench(*RUN)
    capsys.readouterr()
    capsbench("status", *RUN[1:], "--json")
    (run,) = json.loads(capsys.readouterr().out)
    assert run["state"] == "interrupted"
    assert run["progress"]["steps"] == STEPS


def count_batches(monkeypatch: pytest.MonkeyPatch, at: dict[int, Callable[[], None]] | None = None) -> list[int]:
    """Let the list that is returned gain a number for each training batch made; do something as a batch is made."""
    made: list[int] = []
    original = Digits.train_images

    def train_images(self: Digits, images: torch.Tensor, draw: Any) -> torch.Tensor:
        made.append(len(made))
        (at or {}).get(made[-1], lambda: None)()
        return original(self, images, draw)

    monkeypatch.setattr(Digits, "train_images", train_images)
    return made


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_twice() -> None:
    terminate()
    terminate()


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize(("evaluation", "left"), [(1, 8), (2, 1), (3, 0)])
def test_an_evaluation_that_is_interrupted_costs_no_more_than_itself(
    capsbench: Command, uninterrupted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, evaluation: int, left: int
) -> None:
    """That of the first or second epoch, after whose last step nothing can be saved, or of the test at the end."""
    run = (*RUN[:-1], "checkpoint_minutes=60")
    original = Digits.test_images
    calls = iter(range(1_000_000))

    def test_images(self: Digits, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 32 and next(calls) == evaluation:  # the sanity check before training is number 0
            terminate()
        return original(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Digits, "test_images", test_images)
        with pytest.raises(SystemExit):
            capsbench(*run)
    made = count_batches(monkeypatch)
    capsbench(*run)
    assert len(made) == left
    assert_same(what_counts("outputs"), uninterrupted)


ONE_STEP = (*RUN, "trainer.max_epochs=3", "data.batch_size=2000")


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """What a run ends with whose epochs have one step each."""
    root = tmp_path_factory.mktemp("one_step")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["capsbench", *ONE_STEP])
        cli.main()
    return what_counts(root)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_epochs_of_one_step_are_saved_too(
    capsbench: Command, one_step: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = (*ONE_STEP, "checkpoint_minutes=60")
    with monkeypatch.context() as patch:
        count_batches(patch, {step: terminate})
        with pytest.raises(SystemExit):
            capsbench(*run)
    made = count_batches(monkeypatch)
    capsbench(*run)
    assert len(made) == 3 - step
    assert_same(what_counts("outputs"), one_step)
    (path,) = Path("outputs").rglob("metrics.csv")
    logged = pd.read_csv(path).groupby("epoch").last()
    assert logged["train/loss"].dropna().tolist() == pytest.approx([row["train/loss"] for row in only_result().history])


@pytest.mark.parametrize(
    ("setting", "batch"),
    [("+trainer.accumulate_grad_batches=2", 2), ("trainer.max_steps=10", 8), ("trainer.max_steps=10", 9)],
)
def test_steps_of_several_batches_and_runs_that_end_in_mid_epoch(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, setting: str, batch: int
) -> None:
    capsbench(*RUN, setting, "output_dir=whole")
    with monkeypatch.context() as patch:
        count_batches(patch, {batch: terminate})
        with pytest.raises(SystemExit):
            capsbench(*RUN, setting)
    capsbench(*RUN, setting)
    assert_same(what_counts("outputs"), what_counts("whole"))


def test_a_retry_goes_on_from_the_last_checkpoint(
    capsbench: Command, one_step: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        count_batches(patch, {2: run_out_of_memory})
        assert "out of memory" in fails(capsbench, *ONE_STEP)
    made = count_batches(monkeypatch)
    capsbench(*ONE_STEP, "retry_failed=true")
    assert len(made) == 1
    assert_same(what_counts("outputs"), one_step)


def test_a_retry_of_what_failed_after_training_trains_no_more(
    capsbench: Command, one_step: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        module = sys.modules["capsbench.runs.train_and_test"]  # capsbench.runs has a function of that name
        patch.setattr(module, "write_pictures", lambda *_: run_out_of_memory())
        assert "out of memory" in fails(capsbench, *ONE_STEP)
    made = count_batches(monkeypatch)
    capsbench(*ONE_STEP, "retry_failed=true")
    assert not made
    assert_same(what_counts("outputs"), one_step)
    (path,) = Path("outputs").rglob("metrics.csv")
    assert len(pd.read_csv(path)["train/loss"].dropna()) == 3


def test_a_retry_after_nan_begins_anew(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ClassificationModule.training_step
    with monkeypatch.context() as patch:
        patch.setattr(
            ClassificationModule,
            "training_step",
            lambda self, batch, index: original(self, batch, index) * (math.nan if self.global_step == 10 else 1.0),
        )
        assert "the loss is not finite at step 10" in fails(capsbench, *RUN)
    made = count_batches(monkeypatch)
    capsbench(*RUN, "retry_failed=true")
    assert len(made) == STEPS


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before_it(
    capsbench: Command,
    uninterrupted: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    with monkeypatch.context() as patch:
        signal_at(patch, 9, signal.SIGTERM)
        with pytest.raises(SystemExit):
            capsbench(*RUN)
    (checkpoint,) = Path("outputs").rglob("resume.ckpt")
    previous = torch.load(checkpoint.with_name("resume-previous.ckpt"), weights_only=True)["global_step"]
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "garbage": b"garbage"}[damage])
    capsys.readouterr()
    capsbench(*RUN)
    printed = capsys.readouterr().out
    assert f"{checkpoint} is damaged" in printed
    assert f"{checkpoint.parent.parent}: resumed\n" in printed
    assert only_result().sessions[-1]["from_step"] == previous > 0
    assert_same(what_counts("outputs"), uninterrupted)
