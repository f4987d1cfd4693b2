"""Weights of another run to begin with: `init_from`."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from capsbench.data import ImageDataModule
from capsbench.data.files import at_home
from capsbench.data.foreign import check_regular
from capsbench.inference import Description
from capsbench.launch.errors import listed
from capsbench.runs import Result, RunFolder, finished_runs
from capsbench.training import CheckpointError, ClassificationModule, read_checkpoint

SHOWN = 4
"""Names in a line."""


class Source(NamedTuple):
    """Trained weights.

    Attributes:
        place: the folder that they are in.
        weights: by their names in a `ClassificationModule`.
        class_names: that they were trained on; None: not known.
        digest: 16 hexadecimal digits that change with every weight.
    """

    place: Path
    weights: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None
    digest: str


def source_of(named: str) -> Source:
    """Read the weights that `init_from` names. Nothing that the files hold is executed.

    Args:
        named: the folder of a finished run or of a model.safetensors, a file in it, or a folder with one finished run
            somewhere below it.

    Raises:
        ValueError: there are none, or several; or their file is damaged.
    """
    place = at_home(named)
    place = place.parent if place.is_file() else place
    if not (RunFolder(place).config.is_file() or RunFolder(place).network[1].is_file()):
        below = list(finished_runs(place))
        if len(below) != 1:
            raise ValueError(
                f"init_from must be a finished run, or a folder with model.safetensors, got {named}; there are "
                f"{len(below)} finished runs below it"
            )
        place = below[0].path
    folder = RunFolder(place)
    if folder.config.is_file() and not folder.is_finished:
        raise ValueError(
            f"init_from={named} is not finished, it has no {folder.result.name}; train it to the end first"
        )
    file = folder.weights if folder.weights.is_file() else folder.network[1]
    if not file.is_file():
        raise ValueError(f"init_from={named} has lost its weights, {file.name}; name another run")
    return _read(place, file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(place: Path, file: Path, changed: int) -> Source:
    """Read a file; `changed` tells when it was written, so that a newer one is read again."""
    folder = RunFolder(place)
    folder.refuse_links()
    try:
        if file == folder.weights:
            state = read_checkpoint(file).get("state_dict")
            if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
                raise CheckpointError(f"{file} is no checkpoint of a run")
            weights = {name: tensor for name, tensor in state.items() if not name.startswith("metrics.")}
        else:
            check_regular(file)
            weights = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    names: Sequence[str] | None = None
    if folder.is_finished:
        names = Result.load(place).class_names
    elif folder.network[0].is_file():
        names = Description.load(folder.network[0]).class_names
    return Source(place, weights, tuple(names) if names else None, _digest(weights))


def _digest(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


@torch.no_grad()
def begin_with(source: Source, module: ClassificationModule, config: DictConfig, data: ImageDataModule) -> str:
    """Replace the initial weights of a network by those of a source that have the same names.

    Where the classes are others, weights whose shape follows from the number of classes stay as they are.

    Args:
        source: of the weights.
        module: the network.
        config: that it was built of.
        data: that it is to be trained on.

    Returns:
        Which weights were taken and which are new, in one line.

    Raises:
        ValueError: a shape does not fit, or there is no weight of this network.
    """
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith("metrics.")}
    others = source.class_names is not None and source.class_names != tuple(data.names)
    of_classes = _of_classes(own, config, data)
    new = []
    for name, tensor in own.items():
        there = source.weights.get(name)
        is_unknown = source.class_names is None and there is not None and there.shape != tensor.shape
        if there is None or (name in of_classes and (others or is_unknown)):
            new.append(name)
        elif there.shape != tensor.shape:
            raise ValueError(
                f"init_from={source.place} does not fit: {name} is {_shape(there)} there and {_shape(tensor)} here; "
                "choose the arch and the size of images that it was trained with"
            )
        else:
            tensor.copy_(there)
    if len(new) == len(own):
        raise ValueError(f"init_from={source.place} has no weights of this network; choose the arch of that run")
    told = f"{len(own) - len(new)} of {len(own)} tensors are those of {source.place}"
    if new:
        told += f"; new: {listed(new, SHOWN)}" + (" (the classes are others)" if others else "")
    if left := sorted(source.weights.keys() - own.keys()):
        told += f"; left there: {listed(left, SHOWN)}"
    return told


def _of_classes(own: Mapping[str, Tensor], config: DictConfig, data: ImageDataModule) -> set[str]:
    """The names of weights whose shape follows from the number of classes: a network with one more has others."""
    classes = data.num_classes + 1
    shapes: dict[str, torch.Size] = {}
    with torch.device("meta"):
        model = instantiate(config.arch)(
            image_shape=data.input_shape, num_classes=classes, router=instantiate(config.router)
        )
        shapes |= {f"model.{name}": tensor.shape for name, tensor in model.state_dict().items()}
        if make_decoder := instantiate(config.decoder.network):
            decoder = make_decoder(data.input_shape, classes, model.pose_dim)
            shapes |= {f"decoder.{name}": tensor.shape for name, tensor in decoder.state_dict().items()}
    return {name for name, shape in shapes.items() if name in own and own[name].shape != shape}


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def settings_of_source(settings: Mapping[str, Any]) -> dict[str, str]:
    """What stands for `init_from` in the identity of a run with these settings: the digest of its weights."""
    return {"init_from": source_of(str(settings["init_from"])).digest}
