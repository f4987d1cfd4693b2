"""Callbacks that a user chooses: what is refused, and what becomes of a run that has some."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from capsbench.launch.build import restore, trainer_of_one_device
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.sweep import PlannedRun
from capsbench.runs import Result, RunFolder
from capsbench.training import evaluate

FEW = ("data.subset=64", "data.batch_size=16", "data.val_fraction=0.05", "arch=capsnet_light", "arch.filters=8")
FEW += ("arch.groups=2", "trainer.enable_progress_bar=false")


@pytest.fixture(scope="module")
def composer() -> Composer:
    with open_configuration() as loader:
        return Composer(loader)


def digest(composer: Composer, *overrides: str) -> str:
    return PlannedRun.of(composer.compose(overrides), overrides).identity.digest


def test_none_is_the_run_that_there_was_before_and_a_choice_is_another(composer: Composer) -> None:
    few = ("data.val_fraction=0.1",)
    cpu = "trainer.accelerator=cpu"
    assert digest(composer, cpu) == digest(composer, cpu, "callbacks=none") == "8efd2c45"
    names = ("none", "early_stopping", "best_checkpoint", "[early_stopping,best_checkpoint]")
    assert len({digest(composer, *few, f"callbacks={name}") for name in names}) == 4
    assert digest(composer, "callbacks=lr_monitor") == digest(composer)  # it changes no number


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ("callbacks=early_stopping", r"callbacks=early_stopping watches val/loss, .*: set data\.val_fraction=0\.1"),
        ("callbacks=best_checkpoint", "callbacks=best_checkpoint watches val/accuracy, and this run has no validation"),
        (
            "callbacks=early_stopping data.val_fraction=0.1 callbacks.early_stopping.monitor=test/loss",
            "monitor must be val/… or train/…, such as val/loss, got test/loss; nothing is chosen by the test set",
        ),
        (
            "callbacks=best_checkpoint data.val_fraction=0.1 callbacks.best_checkpoint.monitor=train/accuracy",
            "monitor must be val/…, such as val/loss, got train/accuracy",
        ),
        (
            "callbacks=early_stopping data.val_fraction=0.1 callbacks.early_stopping.monitor=val/accuracy",
            r"callbacks\.early_stopping\.mode must be max for val/accuracy, got min",
        ),
        (
            "callbacks=early_stopping data.val_fraction=0.1 callbacks.early_stopping.monitor=null",
            r"monitor must not be null; set a metric such as val/loss",
        ),
        ("callbacks=lr_monitor +callbacks.lr_monitor.colour=red", r"there is no setting callbacks\.lr_monitor\.colour"),
        ("+callbacks.mine=3", r"callbacks\.mine must be a class with its settings, callbacks\.mine\._target_=…, got 3"),
        ("+trainer.callbacks=[]", r"trainer\.callbacks cannot be set: .*; choose one such as callbacks=early_stopping"),
        ("+trainer.logger=false", r"trainer\.logger cannot be set: .*; choose one such as logger=tensorboard"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(composer: Composer, overrides: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        composer.compose(overrides.split())


def test_a_run_that_stops_early_ends_with_the_best_weights_and_is_marked(
    capsbench: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stops = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=10", "trainer.max_epochs=9")
    outputs = capsbench("train", *FEW, "callbacks=[early_stopping,best_checkpoint,lr_monitor]", *stops)
    (path,) = outputs.rglob("result.json")
    result = Result.load(path.parent)
    assert result.epochs == 2
    rows = {row["epoch"]: row["val/accuracy"] for row in result.history}
    best = max(rows, key=lambda epoch: (rows[epoch], -epoch))
    told = f"early stopping by val/loss after 2 epochs; weights of epoch {best}, the best by val/accuracy"
    assert result.chosen == told
    assert told in capsys.readouterr().out
    assert result.metrics["val/accuracy"] == rows[best]
    run = restore(RunFolder(path.parent))
    assert evaluate(trainer_of_one_device("32-true"), run.module, run.data, "val").metrics["val/accuracy"] == rows[best]
    assert [file.name for file in path.parent.glob("checkpoints/*")] == ["last.ckpt"]
    assert pd.read_csv(path.parent / "metrics.csv")["lr-Adam"].max() == 1e-3


def test_a_run_that_stopped_early_and_was_killed_before_its_result_trains_no_further(
    capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*FEW, "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=9")
    arguments += ("callbacks.early_stopping.min_delta=10",)
    with monkeypatch.context() as patch:
        patch.setattr("capsbench.runs.train_and_test.keep_network", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(SystemExit):
            capsbench("train", *arguments)
    (kept,) = Path("outputs").rglob("last.ckpt")
    before = torch.load(kept, weights_only=True)["state_dict"]
    capsbench("train", *arguments)
    after = torch.load(kept, weights_only=True)["state_dict"]
    assert Result.load(kept.parents[1]).epochs == 2
    assert all(weight.equal(before[name]) for name, weight in after.items())


@pytest.mark.parametrize("metric", ["exact_match", "f1", "map"])
def test_what_is_better_the_larger_it_is(composer: Composer, metric: str) -> None:
    watched = f"callbacks.early_stopping.monitor=val/{metric}"
    with pytest.raises(ValueError, match=rf"callbacks\.early_stopping\.mode must be max for val/{metric}, got min"):
        digest(composer, "callbacks=early_stopping", "data.val_fraction=0.1", watched)
