"""`capsbench train`: a Hydra app that trains one run, or a sweep of them."""

import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, ListConfig, OmegaConf

from capsbench.assemble import build_data, build_module
from capsbench.errors import one_line, plain_exit
from capsbench.experiments import CONFIG_FILE, RESULT_FILE, Identity, Result, train_and_test

log = logging.getLogger(__name__)

CONF = next(path for path in (Path(__file__).parent / "conf", Path(__file__).parents[2] / "conf") if path.is_dir())
"""In the wheel the configuration is inside the package, in a checkout at its root."""

FAILURE_FILE = "error.txt"

HARMLESS = (
    ".*does not have many workers.*",  # batches are made whole from memory: workers would be in the way
    ".*smaller than the logging interval.*",  # metrics are logged per epoch
    "Checkpoint directory .* exists and is not empty.*",
    "Experiment logs directory .* exists and is not empty.*",  # the run's folder; an unfinished run starts over
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 under torch 2.13 and later
)
"""Warnings that would tell a user nothing."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@plain_exit
def app(config: DictConfig) -> float:
    """Train one run, unless it is finished; return its test accuracy."""
    check_types(config)
    resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    identity = Identity.of(resolved, HydraConfig.get().runtime.choices)
    folder = identity.folder(config.output_dir)
    if (folder / RESULT_FILE).exists():
        result = Result.load(folder)
        log.info("%s: finished before, skipped (delete the folder to run it again)", folder)
        return _report(result, folder)

    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / CONFIG_FILE, resolve=True)
    log.info("%s: training", folder)
    try:
        result = _run(config, identity, folder)
    except Exception:
        (folder / FAILURE_FILE).write_text(traceback.format_exc())
        raise
    except (KeyboardInterrupt, SystemExit):  # Lightning ends a run that was told to stop with SystemExit(0)
        sys.exit(f"error: {folder} was interrupted; the same command starts it over")
    (folder / FAILURE_FILE).unlink(missing_ok=True)
    return _report(result, folder)


def check_types(config: DictConfig) -> None:
    """Compare what was set with what it replaces.

    Raises:
        ValueError: a switch that is neither true nor false, text where there was a number, several devices.
    """
    hydra_config = HydraConfig.get()
    chosen = [word for word in hydra_config.overrides.task if word.partition("=")[0] in hydra_config.runtime.choices]
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.load_configuration("train", overrides=chosen, run_mode=RunMode.RUN)
    for word in hydra_config.overrides.task:
        key = word.partition("=")[0]
        default = OmegaConf.select(defaults, key)
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value}")
        numeric = isinstance(default, int | float) and not isinstance(default, bool)
        if numeric and key != "seed" and not (isinstance(value, int | float) and not isinstance(value, bool)):
            raise ValueError(f"{key} must be a number such as {default}, got {value}")
        if isinstance(default, int) and isinstance(value, float) and key != "seed":
            raise ValueError(f"{key} must be a whole number such as {default}, got {value}")
        if isinstance(default, ListConfig) and not isinstance(value, ListConfig):
            raise ValueError(f"{key} must be a list such as {default}, got {value}")
    if config.trainer.devices != 1:
        raise ValueError(f"trainer.devices must be 1: a run uses one device, got {config.trainer.devices}")


def _run(config: DictConfig, identity: Identity, folder: Path) -> Result:
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    lightning.seed_everything(identity.seed, verbose=False)
    data = build_data(config)
    module = build_module(config, data)
    loggers = [instantiate(logger, save_dir=str(folder)) for logger in config.logger.values()]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(
                {**identity.settings, "choices": dict(identity.choices), "identity": identity.digest}
            )
    try:
        return train_and_test(
            identity,
            folder,
            data=data,
            module=module,
            make_trainer=instantiate(config.trainer, _partial_=True),
            loggers=loggers,
            progress_bar=config.trainer.enable_progress_bar,
        )
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # else the sweep's next run would go on in this one
                logger.experiment.finish()


def _report(result: Result, folder: Path) -> float:
    accuracy = result.metrics["test/accuracy"]
    log.info("%s: test accuracy %.2f %%", folder, 100 * accuracy)
    return accuracy


def main() -> None:
    """Run the app; an error is one line."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with one_line():
        app()


if __name__ == "__main__":
    main()
