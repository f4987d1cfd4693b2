"""What ends a run and what it leaves out: used as it is meant, or refused in one line before anything is made."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from capsbench.launch.config import Composer, open_configuration
from capsbench.runs import Result

Run = Callable[..., Path]
QUICK = ("train", "data.subset=100", "data.test_subset=100", "trainer.enable_progress_bar=false")


def refused(capsbench: Run, *settings: str) -> str:
    """The one line of a command that ends with code 2 and makes nothing."""
    with pytest.raises(SystemExit) as ended:
        capsbench(*settings)
    assert ended.value.code == 2
    assert not list(Path().iterdir())
    line = str(ended.value)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line.removeprefix("error: ")


def trained(capsbench: Run, *settings: str) -> Result:
    (path,) = capsbench(*QUICK, *settings).rglob("result.json")
    return Result.load(path.parent)


@pytest.fixture(scope="module")
def composer() -> Composer:
    with open_configuration() as loader:
        return Composer(loader)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            "trainer.max_epochs=null",
            "nothing would end the run; set trainer.max_epochs, trainer.max_steps or trainer.m",
        ),
        ("trainer.max_epochs=-1", "nothing would end the run; set trainer.max_epochs, "),
        ("trainer.max_epochs=-1 +trainer.max_time=soon", "trainer.max_time must be days:hours:minutes:seconds such as"),
        (
            "+trainer.max_time=00:00:00:00",
            "trainer.max_time must be days:hours:minutes:seconds such as 00:01:30:00, got",
        ),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches must not be 0, the run would not be trained; "),
        (
            "trainer.limit_train_batches=0.0",
            "trainer.limit_train_batches must not be 0, the run would not be trained; ",
        ),
        (
            "trainer.limit_test_batches=0",
            "trainer.limit_test_batches must not be 0, the run's test accuracy would not be",
        ),
        (
            "trainer.limit_val_batches=0 data.val_fraction=0.2",
            "trainer.limit_val_batches must not be 0, the run's val accuracy would not be measured; ",
        ),
        (
            "trainer.limit_train_batches=-1",
            "trainer.limit_train_batches must be a number of batches, or a share such as",
        ),
        (
            "trainer.limit_train_batches=1.5",
            "trainer.limit_train_batches must be a number of batches, or a share such as",
        ),
        (
            "trainer.limit_test_batches=few",
            "trainer.limit_test_batches must be a number of batches, or a share such as",
        ),
        ("+trainer.overfit_batches=0", "trainer.overfit_batches must not be 0, the run would not be trained; "),
        (
            "+trainer.overfit_batches=1 trainer.limit_train_batches=2",
            "trainer.limit_train_batches has no effect with trainer.overfit_batches; leave one of them out",
        ),
        (
            "+trainer.callbacks=[{_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:test/loss}]",
            "trainer.callbacks cannot be set: a run makes its own; choose one such as callbacks=early_stopping",
        ),
        ("+arch.colour=red", "there is no setting arch.colour; There are: batch_norm_momentum, blocks, conv_init"),
        ("+arch.pose_dims=16", "there is no setting arch.pose_dims; did you mean pose_dim? There are: "),
        ("+arch.num_classes=3", "there is no setting arch.num_classes; "),
        ("+router.num_parents=3", "there is no setting router.num_parents; "),
        ("+loss.margin=3", "there is no setting loss.margin; There are: absent, down_weight, present, reduction"),
        ("+data.colour=red", "there is no setting data.colour; There are: augmentation, batch_size"),
        ("+optim.optimizer.colour=red", "there is no setting optim.optimizer.colour; There are: amsgrad, betas"),
        ("optim=sgd +optim.scheduler.colour=red", "there is no setting optim.scheduler.colour; There are: gamma"),
        ("optim=adam_keras +optim.optimizer.colour=red", "there is no setting optim.optimizer.colour; There are: amsg"),
        ("+trainer.max_epoch=3", "there is no setting trainer.max_epoch; did you mean max_epochs"),
        ("router=em router.iterations=0", "router.iterations must be an integer of at least 1, got 0"),
        ("data.batch_size=0", "data.batch_size must be at least 1, got 0"),
        ("optim.optimizer.lr=-0.1", "optim.optimizer.lr must be at least 0, got -0.1"),
        ("data.val_fraction=1.0", "data.val_fraction must be at least 0 and below 1, got 1.0"),
        ("checkpoint_minutes=-1", "checkpoint_minutes must be at least 0, got -1"),
        ("optim=adam_cosine optim.scheduler.T_max=0", "optim.scheduler.T_max must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_a_run_is_planned(composer: Composer, settings: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        composer.compose(settings.split())


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"]])
@pytest.mark.parametrize("setting", ["trainer.limit_test_batches=0", "+arch.colour=red"])
def test_what_is_refused_makes_nothing(capsbench: Run, sweep: list[str], setting: str) -> None:
    assert setting.strip("+").partition("=")[0] in refused(capsbench, "train", *sweep, setting)


@pytest.mark.parametrize("command", [["train", "-m"], ["status"]])
def test_a_sweep_that_asks_for_no_run(capsbench: Run, command: list[str]) -> None:
    said = refused(capsbench, *command, "router=fm,em", "seed=range(5,1)")
    assert said == "seed=range(5,1) is no value at all, so the sweep asks for no run"


def test_a_share_that_is_no_batch(capsbench: Run) -> None:
    """It takes the data to know."""
    for key in ("limit_train_batches", "limit_test_batches"):
        with pytest.raises(SystemExit) as ended:
            capsbench(*QUICK, f"trainer.{key}=0.01")
        assert ended.value.code == 2
        assert key in str(ended.value)
        assert not list(Path().rglob("*.ckpt"))


def test_a_limit_on_time_alone(capsbench: Run) -> None:
    result = trained(capsbench, "trainer.max_epochs=-1", "+trainer.max_time=00:00:00:01")
    assert result.steps > 0
    assert (result.smoke, result.full) == (True, False)
    assert 0 <= result.metrics["test/accuracy"] <= 1


def test_no_evaluation_before_the_end(capsbench: Run) -> None:
    result = trained(capsbench, "trainer.max_epochs=2", "trainer.limit_val_batches=0")
    assert not any(name.startswith("test/") for row in result.history for name in row)
    assert 0 <= result.metrics["test/accuracy"] <= 1


def test_a_batch_is_learned_by_heart(capsbench: Run) -> None:
    result = trained(
        capsbench,
        *("+trainer.overfit_batches=1", "trainer.max_epochs=30", "data.batch_size=16", "arch.batch_norm_momentum=0.5"),
        *("data.augmentation.crop_padding=3", "trainer.check_val_every_n_epoch=30"),
    )
    assert (result.steps, result.smoke, result.full) == (30, True, False)
    losses = [row["train/loss"] for row in result.history]
    assert losses[-1] < 0.2 * losses[0]
    assert result.history[-1]["train/accuracy"] == 1


def test_every_epoch_of_an_overfitted_batch_is_the_same(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from capsbench.data import Digits

    seen = []
    original = Digits.train_images

    def train_images(self: Digits, images: torch.Tensor, draw: object) -> torch.Tensor:
        seen.append(original(self, images, draw))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(Digits, "train_images", train_images)
    settings = ("+trainer.overfit_batches=2", "trainer.max_epochs=3", "data.augmentation.crop_padding=3")
    trained(capsbench, *settings, "data.batch_size=8")
    assert len(seen) == 6
    assert all(seen[n].equal(seen[n % 2]) for n in range(6))
    assert not seen[0].equal(seen[1])
