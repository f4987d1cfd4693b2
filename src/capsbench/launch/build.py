"""From a configuration to the objects it describes: data, network, and a finished run as it was."""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import lightning
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf

from capsbench.capsules import RouterFactory, initialise
from capsbench.data import Batch, ImageDataModule
from capsbench.launch.noise import hide_harmless_messages
from capsbench.launch.saved import read_config
from capsbench.launch.wording import in_words_of_the_command
from capsbench.runs import Result, RunFolder, finished_runs
from capsbench.training import (
    CheckpointError,
    ClassificationModule,
    compile_networks,
    read_checkpoint,
    use_channels_last,
)
from capsbench.training.freezing import freeze
from capsbench.training.module import Outcome
from capsbench.training.recipe import Recipe

log = logging.getLogger(__name__)


def build_data(config: DictConfig) -> ImageDataModule:
    """The data module of a configuration, not yet set up."""
    data: ImageDataModule = instantiate(config.data)
    data.repeats_an_epoch = bool(OmegaConf.select(config, "trainer.overfit_batches"))
    return data


def build_module(
    config: DictConfig, data: ImageDataModule, router: RouterFactory | None = None
) -> ClassificationModule:
    """The network of a configuration for this data, its loss and how it is optimised. The seed sets initial values.

    Args:
        config: of a run.
        data: gives the size of images and the number of classes.
        router: takes the place of the configuration's, if given.
    """
    with in_words_of_the_command(config):
        model = instantiate(config.arch)(
            image_shape=data.input_shape, num_classes=data.num_classes, router=router or instantiate(config.router)
        )
        make_decoder = instantiate(config.decoder.network)
        decoder = make_decoder and make_decoder(data.input_shape, data.num_classes, model.pose_dim)
        module = ClassificationModule(
            model,
            instantiate(config.loss),
            instantiate(config.optim.optimizer),
            scheduler=instantiate(config.optim.scheduler),
            scheduler_interval=config.optim.scheduler_interval,
            decay=config.optim.get("decay", "all"),  # older runs have none
            num_classes=data.num_classes,
            labels_per_image=data.labels_per_image,
            decoder=decoder,
            reconstruction_weight=config.decoder.loss_weight,
        )
    module.recipe = _recipe(config, data)
    initialise(module, config.seed)
    if parts := config.get("freeze"):
        module.frozen = freeze(module.model, decoder, parts)
        module.train()
    if config.channels_last:
        use_channels_last(module)
    if config.compile is not None:
        compile_networks(config.compile, model, decoder)
    return module


def _recipe(config: DictConfig, data: ImageDataModule) -> Recipe:
    """What a module was made with, as plain values."""
    parts = {
        "model": config.arch,
        "router": config.router,
        "decoder": config.decoder.network,
        "loss": config.loss,
        "optimizer": config.optim.optimizer,
        "scheduler": config.optim.scheduler,
    }
    plain: Any = OmegaConf.to_container(OmegaConf.create(parts, parent=config), resolve=True)
    return {
        **plain,
        "image_shape": list(data.input_shape),
        "num_classes": data.num_classes,
        "labels_per_image": data.labels_per_image,
        "scheduler_interval": config.optim.scheduler_interval,
        "decay": config.optim.get("decay", "all"),
        "reconstruction_weight": config.decoder.loss_weight,
    }


class TrainedRun(NamedTuple):
    """A finished run, ready to be looked into."""

    result: Result
    data: ImageDataModule
    module: ClassificationModule


def restore(
    folder: RunFolder, data_dir: str | None = None, stage: str | None = None, config_dir: str | None = None
) -> TrainedRun:
    """Load a finished run: its result, its data set up, its network with the weights of the last epoch.

    Args:
        folder: of the run.
        data_dir: where data sets are now; None: where they were.
        stage: what the data is set up for, see `ImageDataModule.setup`.
        config_dir: a user's own directory of choices, which the run may be made of.

    Raises:
        ValueError: the folder is not a run's, the run is not finished, its configuration names what is no choice, its
            weights do not fit it, or a file is a link.
        DataError: the data cannot be had.
    """
    if not folder.config.is_file():
        raise ValueError(f"{folder} is not a run's folder, it has no {folder.config.name}; name one of capsbench train")
    if not folder.is_finished:
        raise ValueError(f"{folder} is not finished, it has no {folder.result.name}; train it to the end first")
    folder.refuse_links()
    result = Result.load(folder.path)
    config = read_config(folder, config_dir)
    if data_dir is not None and "data_dir" in config.data:
        config.data.data_dir = data_dir
    if not os.path.lexists(folder.weights):
        raise ValueError(f"{folder} has lost its weights, {folder.weights}; delete the folder and train again")
    try:
        saved = read_checkpoint(folder.weights)
    except CheckpointError as error:
        raise ValueError(f"{error}; delete {folder} and train again") from error
    data = build_data(config)
    config.compile = None  # for a few batches it is not worth it
    module = build_module(config, data)
    try:
        weights = saved["state_dict"]  # of older checkpoints with metrics among them
        module.load_state_dict({name: weights[name] for name in weights if not name.startswith("metrics.")})
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder.weights} is of another architecture than {folder.config} describes; were files moved between "
            f"runs? ({str(error).splitlines()[-1].strip()})"
        ) from error
    record = result.data_files
    if record and data.contents is not None and (changed := data.contents.changed_since(record)):
        log.warning("%s was trained before its data changed (%s)", folder, changed)
    data.prepare_data()
    data.setup(stage)
    return TrainedRun(result, data, module.eval())


def replay(folder: RunFolder, config_dir: str | None = None) -> Outcome:
    """Compute once more what gave NaN or infinity in training: the kept batch with the kept weights.

    Args:
        folder: of a run that failed so.
        config_dir: a user's own directory of choices that the run was trained with.

    Raises:
        NonFiniteError: a layer's output is not finite; else the loss of what is returned is not.
        FileNotFoundError: the run has kept no such batch.
        ValueError: what it has kept is damaged.
    """
    hide_harmless_messages()
    kept = read_checkpoint(folder.nonfinite)
    config = read_config(folder, config_dir)
    config.compile = None
    module = build_module(config, build_data(config))
    module.load_state_dict(kept["state_dict"])
    trainer = trainer_of_one_device(config.trainer.precision)
    plugin, device = trainer.precision_plugin, trainer.strategy.root_device
    plugin.convert_module(module.to(device).train(kept["training"]))
    batch = plugin.convert_input(Batch(**{name: tensor.to(device) for name, tensor in kept["batch"].items()}))
    with plugin.forward_context():
        return module.outcome(batch, progress=kept["progress"], step=kept["step"], training=kept["training"])


def trainer_of_one_device(precision: Any) -> lightning.Trainer:
    """A trainer that looks into a trained network: it computes with this precision, and shows and keeps nothing."""
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        plugins=[LightningEnvironment()],  # also in a Slurm job of several tasks
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def find_runs(place: Path) -> list[RunFolder]:
    """The folder itself if it is a run's, else all finished runs below it that have their configuration.

    Raises:
        ValueError: there are none.
    """
    if RunFolder(place).config.is_file():
        return [RunFolder(place)]
    found = [folder for folder in finished_runs(place) if folder.config.is_file()]  # published ones have no weights
    if not found:
        raise ValueError(f"{place} is not a run's folder, and there is no finished run below it; name one of outputs/…")
    return found
