"""The trained network of a run, for whoever has neither its data nor its configuration."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from capsbench.data import ImageDataModule
from capsbench.inference import Description, save
from capsbench.inference.description import Scores, is_plain, without_hydra
from capsbench.runs.folder import RunFolder
from capsbench.runs.result import Result
from capsbench.training import ClassificationModule, CrossEntropyLoss
from capsbench.training.module import THRESHOLD

log = logging.getLogger(__name__)

TOLD = ("experiment", "data", "arch", "router", "seed", "identity", "epochs", "steps")
"""Of a result, to readers of a description."""


def keep_network(
    folder: RunFolder,
    network: Mapping[str, Mapping[str, Any]],
    data: ImageDataModule,
    module: ClassificationModule,
    result: Result,
) -> None:
    """Write the network of a run into its folder, as `capsbench.load` reads it.

    It is left out where the network is made of more than plain settings, or images are prepared in a way of their own.

    Args:
        folder: of the run.
        network: the settings that its "arch" and its "router" were made with.
        data, module: of the run.
        result: of the run; it is told to readers.
    """
    if not all(map(is_plain, network.values())) or type(data).test_images is not ImageDataModule.test_images:
        log.warning(
            "%s: capsbench predict cannot read it, its network or images are made in a way of their own", folder
        )
        return
    loss, split = module.loss, data.watched_split
    scores: Scores = "activations"
    scale = 1.0
    if isinstance(loss, CrossEntropyLoss):
        scores, scale = "shares" if loss.normalize else "softmax", float(torch.as_tensor(loss.scale).detach())
    description = Description(
        arch=without_hydra(network["arch"]),
        router=without_hydra(network["router"]),
        preparation=data.preparation,
        class_names=tuple(result.class_names),
        labels_per_image=data.labels_per_image,
        threshold=THRESHOLD,
        scores=scores,
        scale=scale,
        run={
            **{name: getattr(result, name) for name in TOLD},
            "split": split,
            "examples": data.num_examples(split),
            result.main_metric.partition("/")[2]: result.metrics[result.main_metric],
        },
    )
    save(description, module.model, folder.path)
