"""From a configuration to the objects it describes: data, network, and a finished run as it was."""

from hydra.utils import instantiate
from omegaconf import DictConfig

from capsbench.data import ImageDataModule
from capsbench.training import ClassificationModule


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
    return ClassificationModule(
        model,
        instantiate(config.loss),
        instantiate(config.optim.optimizer),
        scheduler=instantiate(config.optim.scheduler),
        scheduler_interval=config.optim.scheduler_interval,
        num_classes=data.num_classes,
        decoder=make_decoder and make_decoder(data.image_shape, data.num_classes, model.pose_dim),
        reconstruction_weight=config.decoder.loss_weight,
    )
