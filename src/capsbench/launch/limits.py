"""What ends a run, and what it leaves out."""

import re

from omegaconf import DictConfig

from capsbench.runs.checks import holds_out

DURATION = re.compile(r"(?=.*[1-9])\d+:\d\d:\d\d:\d\d")
"""Lightning's: days, hours, minutes, seconds; not all of them 0."""


def check_limits(config: DictConfig) -> None:
    """Check that a run ends, that it trains and measures something, and that its schedules can tell when it ends.

    Raises:
        ValueError: it does not.
    """
    trainer = config.trainer
    for key in ("max_epochs", "max_steps"):
        limit = trainer.get(key, -1)
        if limit != -1 and (limit is None or limit < 1):
            raise ValueError(f"trainer.{key} must be at least 1, or -1 for no limit, got {limit}")
    max_time = trainer.get("max_time")
    if max_time is not None and not DURATION.fullmatch(str(max_time)):
        raise ValueError(f"trainer.max_time must be days:hours:minutes:seconds such as 00:01:30:00, got {max_time}")
    if trainer.max_epochs == trainer.max_steps == -1:
        if max_time is None:
            raise ValueError("nothing would end the run; set trainer.max_epochs, trainer.max_steps or trainer.max_time")
        _check_schedules(config)
    _check_batches(trainer, measured="val" if holds_out(config.data) else "test")


def _check_schedules(config: DictConfig) -> None:
    """Refuse what follows the fraction of the training that is done where only time ends it."""
    schedule = config.optim.scheduler or {}
    if None in schedule.values():
        what, other = "the learning rate follows", "optim"
    elif str(config.loss.get("_target_")).endswith(".SpreadLoss") and config.loss.get("steps") is None:
        what, other = "the margin of the loss follows", "loss"
    else:
        return
    raise ValueError(
        f"{what} how much of the training is done, which trainer.max_time alone does not tell; set trainer.max_epochs "
        f"or trainer.max_steps too, or choose another {other}"
    )


def _check_batches(trainer: DictConfig, measured: str) -> None:
    for key in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"):
        limit = trainer.get(key)
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if limit is not None and not (is_number and (0 <= limit <= 1 or (limit > 1 and limit % 1 == 0))):
            raise ValueError(f"trainer.{key} must be a number of batches, or a share such as 0.5, got {limit}")
    for key, without in {
        "limit_train_batches": "the run would not be trained",
        f"limit_{measured}_batches": f"the run's {measured} accuracy would not be measured",
        "overfit_batches": "the run would not be trained",
    }.items():
        if trainer.get(key) == 0:
            raise ValueError(f"trainer.{key} must not be 0, {without}; leave it out, or set 1 for one batch")
    if trainer.get("overfit_batches"):
        for key in ("limit_train_batches", "limit_val_batches"):
            if trainer.get(key) is not None:
                raise ValueError(f"trainer.{key} has no effect with trainer.overfit_batches; leave one of them out")
