"""From a configuration to the objects it describes: data, network, and a finished run as it was."""

from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from capsbench.data import ImageDataModule
from capsbench.runs import CHECKPOINT, CONFIG_FILE, RESULT_FILE, Result
from capsbench.training import ClassificationModule, compile_networks, use_channels_last

PARTS = ("data", "arch", "router", "decoder", "loss", "optim")
"""Of a configuration: what a run is built from."""


def build_data(config: DictConfig) -> ImageDataModule:
    """The data module of a configuration, not yet set up."""
    data: ImageDataModule = instantiate(config.data)
    return data


def build_module(config: DictConfig, data: ImageDataModule) -> ClassificationModule:
    """The network of a configuration for this data, its loss and how it is optimised."""
    model = instantiate(config.arch)(
        image_shape=data.image_shape, num_classes=data.num_classes, router=instantiate(config.router)
    )
    make_decoder = instantiate(config.decoder.network)
    decoder = make_decoder and make_decoder(data.image_shape, data.num_classes, model.pose_dim)
    module = ClassificationModule(
        model,
        instantiate(config.loss),
        instantiate(config.optim.optimizer),
        scheduler=instantiate(config.optim.scheduler),
        scheduler_interval=config.optim.scheduler_interval,
        num_classes=data.num_classes,
        decoder=decoder,
        reconstruction_weight=config.decoder.loss_weight,
    )
    if config.channels_last:
        use_channels_last(module)
    if config.compile is not None:
        compile_networks(config.compile, model, decoder)
    return module


class TrainedRun(NamedTuple):
    """A finished run, ready to be looked into."""

    result: Result
    data: ImageDataModule
    module: ClassificationModule


def restore(folder: Path, data_dir: str | None = None) -> TrainedRun:
    """Load a finished run: its result, its data set up, its network with the weights of the last epoch.

    Args:
        folder: of the run.
        data_dir: where data sets are kept now; None: where they were.

    Raises:
        ValueError: the folder is no run's, the run is not finished, or its weights do not fit its configuration.
        DataError: the data cannot be had.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is not a run's folder, it has no {CONFIG_FILE}; name one that capsbench train made")
    if not (folder / RESULT_FILE).is_file():
        raise ValueError(f"{folder} is not finished, it has no {RESULT_FILE}; train it to the end first")
    result = Result.load(folder)
    config = _read_config(folder / CONFIG_FILE)
    if data_dir is not None and "data_dir" in config.data:
        config.data.data_dir = data_dir
    checkpoint = folder / CHECKPOINT
    if not checkpoint.is_file():
        raise ValueError(f"{folder} has lost its weights, there is no {checkpoint}; delete the folder and train again")
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file, whatever its reader stumbles over
        raise ValueError(f"{checkpoint} is damaged and cannot be read; delete {folder} and train again") from error
    data = build_data(config)
    config.compile = None  # for a few batches it is not worth it
    module = build_module(config, data)
    try:
        weights = saved["state_dict"]  # of older checkpoints with metrics among them
        module.load_state_dict({name: weights[name] for name in weights if not name.startswith("metrics.")})
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{checkpoint} is of another architecture than {folder / CONFIG_FILE} describes; were files moved between "
            f"runs? ({str(error).splitlines()[-1].strip()})"
        ) from error
    data.prepare_data()
    data.setup()
    return TrainedRun(result, data, module.eval())


def _read_config(path: Path) -> DictConfig:
    """The configuration that a run was trained with.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, ValueError):
        config = None
    if not isinstance(config, DictConfig) or not all(OmegaConf.is_dict(config.get(part)) for part in PARTS):
        raise ValueError(f"{path} is damaged, it is no configuration of a run; delete {path.parent} and train again")
    return config


def find_runs(place: Path) -> list[Path]:
    """The folder itself if it is a run's, else the folders of all finished runs below it.

    Raises:
        ValueError: there are none.
    """
    if (place / CONFIG_FILE).is_file():
        return [place]
    results = sorted(place.rglob(RESULT_FILE)) if place.is_dir() else []
    found = [path.parent for path in results if (path.parent / CONFIG_FILE).is_file()]  # published ones have no weights
    if not found:
        raise ValueError(f"{place} is no run's folder, and there is no finished run below it; name one of outputs/…")
    return found
