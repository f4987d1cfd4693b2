"""An interrupted run that goes on elsewhere: every session is told in its result."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.commands import cli, evaluate
from capsbench.data import ImageDataModule
from capsbench.launch.build import replay
from capsbench.routing import NonFiniteError
from capsbench.runs import Result, RunFolder, provenance
from capsbench.training import read_checkpoint
from capsbench.training.checkpoint import save_checkpoint

pytestmark = pytest.mark.engines

Command = Callable[..., Path]
Outcome = tuple[dict[str, float], dict[str, torch.Tensor]]
"""The metrics that a run ends with, but for speeds, and its weights."""

RUN = ("train", "data=arrays", "data.path=mine.npz", "data.batch_size=32", "trainer.max_epochs=2")
RUN += ("trainer.enable_progress_bar=false", "checkpoint_minutes=0")
STEPS = 6
"""In two epochs."""


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> Path:
    """A file of 120 images of two classes, in the folder where commands run."""
    return write_images(tmp_path / "mine.npz", 120)


def write_images(path: Path, number: int, seed: int = 0) -> Path:
    labels = np.arange(number) % 2
    images = np.random.default_rng(seed).integers(0, 80, (number, 16, 16), dtype=np.uint8)
    images[labels == 1, :8] += 150
    np.savez(path, images=images, labels=labels)
    return path


def only_run() -> RunFolder:
    (config,) = Path("outputs").rglob("config.yaml")
    return RunFolder(config.parent)


def interrupt(capsbench: Command, monkeypatch: pytest.MonkeyPatch, step: int, *arguments: str) -> RunFolder:
    """Begin a run and stop it after so many steps."""
    original, made = ImageDataModule.train_images, iter(range(1_000))

    def train_images(self: ImageDataModule, *arguments: Any) -> torch.Tensor:
        if next(made) == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataModule, "train_images", train_images)
        with pytest.raises(SystemExit):
            capsbench(*RUN, *arguments)
    return only_run()


def outcome(folder: RunFolder) -> Outcome:
    metrics = Result.load(folder.path).metrics
    weights = read_checkpoint(folder.weights)["state_dict"]
    return {name: value for name, value in metrics.items() if "per_" not in name}, weights


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("uninterrupted")
    write_images(root / "mine.npz", 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cli.main(list(RUN))
        return outcome(only_run())


def assert_same(folder: RunFolder, expected: Outcome) -> None:
    metrics, weights = outcome(folder)
    assert metrics == expected[0]
    assert all(weights[name].equal(tensor) for name, tensor in expected[1].items())


def flip(path: Path) -> None:
    """Flip a bit in the middle of a checkpoint, which is in a tensor."""
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1 << 6
    path.write_bytes(flipped)


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_bits(
    capsbench: Command,
    uninterrupted: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damaged: int,
) -> None:
    """A flipped bit in the newest checkpoint, or the last two: the run goes on from before them, to the same bits."""
    folder = interrupt(capsbench, monkeypatch, 4)
    for path in (folder.resume, folder.previous)[:damaged]:
        flip(path)
    capsys.readouterr()
    capsbench(*RUN)
    printed = capsys.readouterr().out
    assert printed.count("has another checksum") == damaged
    assert f"{folder}: {'resumed' if damaged == 1 else 'training'}\n" in printed
    assert Result.load(folder.path).sessions[-1]["from_step"] == (3 if damaged == 1 else 0)
    assert_same(folder, uninterrupted)
    assert [path.name for path in folder.weights.parent.iterdir()] == ["last.ckpt"]


def test_damaged_weights_of_a_finished_run_are_not_measured(capsbench: Command) -> None:
    """A flipped bit in the weights of a finished run: they are not measured, and stay."""
    capsbench(*RUN)
    folder = only_run()
    flip(folder.weights)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged .* checksum .*; delete .* and train again"):
        evaluate.evaluate_run(folder, "test")
    assert folder.weights.is_file()


def test_what_gave_nan_is_kept_and_replayed(capsbench: Command) -> None:
    """NaN or infinity in training: batch, weights, step and layer are kept, and give it once more."""
    with pytest.raises(SystemExit) as failed:
        capsbench(*RUN, "optim.optimizer.lr=1e30")
    folder = only_run()
    cause = str(failed.value).removeprefix("error: ")
    kept = read_checkpoint(folder.nonfinite)
    assert (kept["step"], kept["epoch"], kept["batch_idx"], kept["seed"], kept["training"]) == (1, 0, 1, 1, True)
    assert kept["cause"] == cause
    assert kept["batch"]["images"].shape == (32, 1, 16, 16)
    with pytest.raises(NonFiniteError) as again:
        replay(folder)
    assert str(again.value) == cause
    assert str(folder.nonfinite) in folder.failure.read_text()


def test_a_loss_that_is_not_finite_although_every_layer_is_comes_out_again(capsbench: Command) -> None:
    """NaN or infinity in training: batch, weights, step and layer are kept, and give it once more."""
    with pytest.raises(SystemExit, match="the loss itself overflowed"):
        capsbench(*RUN, "loss.down_weight=1e39")
    assert not replay(only_run()).loss.isfinite()


def test_after_nan_a_retry_begins_anew_and_nothing_is_deleted(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, uninterrupted: Outcome
) -> None:
    """A retry after NaN: it begins anew, and no checkpoint is deleted before it is finished."""
    original = ImageDataModule.train_images
    made = iter(range(1_000))

    def train_images(self: ImageDataModule, *arguments: Any) -> torch.Tensor:
        return original(self, *arguments) * (float("nan") if next(made) == 4 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(ImageDataModule, "train_images", train_images)
        with pytest.raises(SystemExit):
            capsbench(*RUN)
    folder = only_run()
    names = {path.name for path in folder.weights.parent.iterdir()}
    assert names == {"nonfinite.ckpt", "resume.ckpt.aside", "resume-previous.ckpt.aside"}
    assert read_checkpoint(folder.weights.with_name("resume.ckpt.aside"))["global_step"] == 4
    capsbench(*RUN, "retry_failed=true")
    (session,) = Result.load(folder.path).sessions
    assert (session["from_step"], session["to_step"]) == (0, STEPS)
    assert_same(folder, uninterrupted)


def test_every_session_is_told(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for commit, steps in (("one", 2), ("two", 3)):
        monkeypatch.setattr(provenance, "git_commit", lambda commit=commit: commit)
        folder = interrupt(capsbench, monkeypatch, steps)
    monkeypatch.setattr(provenance, "git_commit", lambda: "three")
    capsbench(*RUN)
    result = Result.load(folder.path)
    told = [(each["git_commit"], each["from_step"], each["to_step"]) for each in result.sessions]
    assert told == [("one", 0, 2), ("two", 2, 5), ("three", 5, STEPS)]
    assert all(each["device"] == result.device and each["devices"] == 1 for each in result.sessions)
    assert result.git_commit == "three"
    assert result.changed_between_sessions == ["git_commit"]
    assert os.sep not in json.dumps([dict(each, git_commit="") for each in result.sessions])


def test_a_checkpoint_of_a_version_that_kept_no_sessions(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = interrupt(capsbench, monkeypatch, 4)
    checkpoint = read_checkpoint(folder.resume)
    del checkpoint["callbacks"]["Provenance"]
    save_checkpoint(checkpoint, folder.resume)
    capsbench(*RUN)
    told = [(each["from_step"], each["to_step"]) for each in Result.load(folder.path).sessions]
    assert told == [(4, STEPS)]


@pytest.mark.parametrize(
    ("number", "seed", "said"),
    [
        (80, 0, "files: 1 changed, such as mine.npz"),
        (120, 1, "files: 1 changed, such as mine.npz"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(
    capsbench: Command,
    uninterrupted: Outcome,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    seed: int,
    said: str,
) -> None:
    """Other data under an interrupted run: refused in a line; with the former data the same bits."""
    folder = interrupt(capsbench, monkeypatch, 4)
    former = data.read_bytes()
    write_images(data, number, seed)
    with pytest.raises(SystemExit) as refused:
        capsbench(*RUN)
    line = str(refused.value)
    assert f"the data has changed since {folder} was begun" in line
    assert said in line
    assert "put the former data back" in line
    assert not folder.is_finished
    data.write_bytes(former)
    capsbench(*RUN, "retry_failed=true")
    assert_same(folder, uninterrupted)


def test_a_run_does_not_go_on_from_another_runs_checkpoint(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of another run: refused in a line."""
    other = interrupt(capsbench, monkeypatch, 4, "seed=2")
    other.path.rename("other")
    folder = interrupt(capsbench, monkeypatch, 2)
    RunFolder(Path("other")).resume.replace(folder.resume)
    with pytest.raises(SystemExit) as refused:
        capsbench(*RUN)
    assert f"the checkpoint in {folder} is of another run" in str(refused.value)
    assert folder.resume.is_file()


@pytest.mark.faults
def test_killed_again_and_again_and_its_newest_checkpoint_damaged_in_between(tmp_path: Path) -> None:
    """kill -9 six times, the newest checkpoint damaged three times: the same bits."""
    command = [sys.executable, "-m", "capsbench", *RUN, "trainer.max_epochs=30"]
    subprocess.run([*command, "output_dir=whole"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    rng = random.Random(0)
    log = tmp_path / "log"
    for kill in range(6):
        with log.open("w") as stream:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=stream, stderr=subprocess.STDOUT)
        before = time.time()
        while not any(path.stat().st_mtime > before for path in tmp_path.glob("outputs/**/resume.ckpt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.wait()
        for newest in tmp_path.glob("outputs/**/resume.ckpt") if kill % 2 else ():
            flip(newest)
    with log.open("w") as stream:
        subprocess.run(command, cwd=tmp_path, check=True, stdout=stream)
    assert log.read_text().count("has another checksum") == 1
    whole, resumed = (RunFolder(next((tmp_path / root).rglob("result.json")).parent) for root in ("whole", "outputs"))
    sessions = Result.load(resumed.path).sessions  # those of which no checkpoint was left are not among them
    assert 1 < len(sessions) <= 7
    assert [each["from_step"] for each in sessions] == [0, *(each["to_step"] for each in sessions[:-1])]
    assert sessions[-1]["to_step"] == 90
    assert_same(resumed, outcome(whole))
