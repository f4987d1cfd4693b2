"""Learning rates, step by step, against the formulas of their schedules, whatever ends a run."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from capsbench.data import Digits
from capsbench.launch.config import Composer, open_configuration
from capsbench.routing import Capsules
from capsbench.training import ClassificationModule, MarginLoss, write_checkpoint

BATCHES = 4
LIMITS = {
    "epochs": ("trainer.max_epochs=5", 20),
    "steps": ("trainer.max_epochs=-1 trainer.max_steps=18", 18),
    "steps, null epochs": ("trainer.max_epochs=null trainer.max_steps=6", 6),
    "epochs before steps": ("trainer.max_epochs=3 trainer.max_steps=100", 12),
    "steps before epochs": ("trainer.max_epochs=100 trainer.max_steps=10", 10),
}
Formula = Callable[[float, int, int], float]
SCHEDULES: dict[str, tuple[str, Formula]] = {
    "adam_cosine": ("", lambda rate, n, end: rate * (1 + math.cos(math.pi * n / end)) / 2),
    "sgd": ("optim.scheduler.milestones=[2,3]", lambda rate, n, _: rate * 0.1 ** ((n >= 2) + (n >= 3))),
    "sgd_halving": ("optim.scheduler.step_size=2", lambda rate, n, _: rate * 0.5 ** (n // 2)),
    "sgd_exponential": ("optim.scheduler.gamma=0.8", lambda rate, n, _: rate * 0.8**n),
}
"""By names in conf/optim: settings that make a short run show them, and the rate after n of so many steps or epochs."""


class FewDigits(Digits):
    """64 digits: four batches of 16."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        few = self.splits["train"].take(range(16 * BATCHES))
        self.splits = {"train": few, "test": few}


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32 * 32, 10)

    def forward(self, images: Tensor) -> Capsules:
        activations = self.layer(images.flatten(1)).sigmoid()
        return Capsules(activations.unsqueeze(2), activations)


class Rates(lightning.Callback):
    """Notes the rate of each step; saves and stops after some of them."""

    def __init__(self, stop_after: int | None = None, checkpoint: Path | None = None) -> None:
        self.seen: list[float] = []
        self.stop_after, self.checkpoint = stop_after, checkpoint

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        if len(self.seen) == self.stop_after and self.checkpoint is not None:
            write_checkpoint(trainer, self.checkpoint)
            raise InterruptedError


@functools.cache
def composer() -> Composer:
    with open_configuration() as loader:
        return Composer(loader)


def compose(*settings: str) -> DictConfig:
    return composer().compose([word for words in settings for word in words.split()]).config


def fit(config: DictConfig, rates: Rates, resume: Path | None = None) -> None:
    module = ClassificationModule(
        OneLayer(),
        MarginLoss(),
        instantiate(config.optim.optimizer),
        scheduler=instantiate(config.optim.scheduler),
        scheduler_interval=config.optim.scheduler_interval,
        num_classes=10,
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = instantiate(config.trainer, callbacks=[rates], **quiet)
    trainer.fit(module, datamodule=FewDigits(seed=1, batch_size=16), ckpt_path=resume, weights_only=False)


def expected(config: DictConfig, formula: Formula, steps: int, per_epoch: int = BATCHES) -> list[float]:
    rate, by_step = config.optim.optimizer.lr, config.optim.scheduler_interval == "step"
    end = steps if by_step else math.ceil(steps / per_epoch)
    return [formula(rate, step if by_step else step // per_epoch, end) for step in range(steps)]


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_by_the_formula(schedule: str, limit: str, interval: str) -> None:
    (settings, formula), (ends, steps) = SCHEDULES[schedule], LIMITS[limit]
    config = compose(f"optim={schedule}", settings, ends, f"optim.scheduler_interval={interval}")
    rates = Rates()
    fit(config, rates)
    assert rates.seen == pytest.approx(expected(config, formula, steps), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("optim", ["adam", "adam_keras"])
@pytest.mark.parametrize("limit", LIMITS)
def test_without_a_schedule_the_rate_stays(optim: str, limit: str) -> None:
    ends, steps = LIMITS[limit]
    rates = Rates()
    fit(compose(f"optim={optim}", ends), rates)
    assert rates.seen == [0.001] * steps


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize(
    ("settings", "steps", "per_epoch"),
    [
        ("trainer.max_epochs=3 +trainer.accumulate_grad_batches=3", 6, 2),
        ("trainer.max_epochs=-1 trainer.max_steps=5 +trainer.accumulate_grad_batches=3", 5, 2),
        ("trainer.max_epochs=4 trainer.limit_train_batches=0.5", 8, 2),
        ("trainer.max_epochs=-1 trainer.max_steps=7 trainer.limit_train_batches=3", 7, 3),
        ("trainer.max_epochs=4 +trainer.max_time=01:00:00:00", 16, 4),
    ],
)
def test_a_cosine_ends_with_the_run(settings: str, steps: int, per_epoch: int, interval: str) -> None:
    config = compose("optim=adam_cosine", settings, f"optim.scheduler_interval={interval}")
    rates = Rates()
    fit(config, rates)
    formula = SCHEDULES["adam_cosine"][1]
    assert rates.seen == pytest.approx(expected(config, formula, steps, per_epoch), rel=1e-6, abs=1e-12)


def test_a_length_that_is_set_holds() -> None:
    config = compose("optim=adam_cosine optim.scheduler.T_max=8 trainer.max_epochs=-1 trainer.max_steps=12")
    rates = Rates()
    fit(config, rates)
    assert rates.seen == pytest.approx([0.001 * (1 + math.cos(math.pi * (n // 4) / 8)) / 2 for n in range(12)])


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_resumed_run_has_the_same_rates(limit: str, interval: str, tmp_path: Path) -> None:
    config = compose("optim=adam_cosine", LIMITS[limit][0], f"optim.scheduler_interval={interval}")
    whole, before, after = Rates(), Rates(5, tmp_path / "x.ckpt"), Rates()
    fit(config, whole)
    with pytest.raises(InterruptedError):
        fit(config, before)
    fit(config, after, resume=tmp_path / "x.ckpt")
    assert [*before.seen, *after.seen] == whole.seen
    assert len(set(whole.seen)) > 1


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^the learning rate follows how much of the training is done, which trainer\."
    ):
        compose("optim=adam_cosine trainer.max_epochs=-1 +trainer.max_time=00:00:01:00")
    with pytest.raises(ValueError, match=r"^the margin of the loss follows .* or choose another loss$"):
        compose("loss=spread trainer.max_epochs=-1 +trainer.max_time=00:00:01:00")
    compose("loss=spread loss.schedule=sigmoid loss.steps=9 trainer.max_epochs=-1 +trainer.max_time=00:00:01:00")
