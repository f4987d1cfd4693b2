"""A trained network that answers about pictures."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Real
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from capsbench.data.files import written_atomically
from capsbench.data.foreign import check_regular
from capsbench.data.pictures import Fit, as_bytes, as_shown, read_picture, resized
from capsbench.inference.description import Description
from capsbench.inference.files import DESCRIPTION, WEIGHTS
from capsbench.routing import Capsules

NETWORKS = Path(__file__).parents[1] / "networks"
"""Trained networks that come with the package."""

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True)
class Predictions:
    """What a network says of pictures, in their order.

    Attributes:
        labels: the numbers of the classes, the surest first; several where an image of the training set shows several.
            Where those show any number of classes: whether the activation of each is above the description's threshold.
        names: of the classes, for each picture, the surest first.
        scores: of all classes, see `Description.scores`; probabilities where the network was trained on them.
        poses: of the class capsules.
    """

    labels: Int64[Tensor, "picture several"] | Bool[Tensor, "picture class"]
    names: list[tuple[str, ...]]
    scores: Float[Tensor, "picture class"]
    poses: Float[Tensor, "picture class dim"]

    def __len__(self) -> int:
        return len(self.names)


class Classifier:
    """A trained network with the names of its classes and the preparation of its images.

    Args:
        description: of the network.
        network: maps prepared images (batch, channel, height, width) to class capsules; it is set to evaluation.

    Attributes:
        description, network: as given.
    """

    def __init__(self, description: Description, network: nn.Module) -> None:
        self.description = description
        self.network = network.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the class capsules."""
        return self.description.class_names

    def to(self, device: torch.device | str) -> "Classifier":
        """Move the network to a device, where it computes from now on."""
        self.network.to(device)
        return self

    def prepare(self, pictures: Picture | Sequence[Picture], fit: Fit | None = None) -> Float[Tensor, "picture _ _ _"]:
        """Make the network's input of pictures; those of another size are resized.

        Args:
            pictures: one or several of: files (see `read_picture`), pictures of Pillow's, arrays and tensors. Arrays
                are (height, width) or (height, width, channel), of bytes; tensors (channel, height, width) or (picture,
                channel, height, width), of bytes or of floats in [0, 1].
            fit: how pictures get another size; None: as in training.

        Raises:
            DataError: a file cannot be read.
            ValueError: an array, tensor or picture of Pillow's is of another shape or kind, or its floats are outside
                [0, 1].
        """
        one_of = (str, os.PathLike, Image.Image, np.ndarray, Tensor)
        listed: list[Picture] = [pictures] if isinstance(pictures, one_of) else list(pictures)
        stored = [self._stored(picture, fit) for picture in listed]
        if not stored:
            raise ValueError("there are no pictures")
        weights = next(self.network.parameters())
        return self.description.preparation(torch.cat(stored).to(weights.device)).to(weights.dtype)

    def _stored(self, picture: Picture, fit: Fit | None) -> Real[Tensor, "picture _ _ _"]:
        preparation = self.description.preparation
        channels, height, width = preparation.shape
        if isinstance(picture, Tensor):
            return self._of_tensor(picture)
        if channels not in (1, 3):
            raise ValueError(f"this network sees {channels} channels; give it tensors")
        if isinstance(picture, np.ndarray):
            picture = _of_array(picture)
        elif isinstance(picture, Image.Image):
            picture = as_shown(picture, preparation.background)
        else:
            picture = read_picture(picture, preparation.background)
        fitted = resized(picture, (width, height), fit or preparation.fit)
        return torch.tensor(as_bytes(fitted, channels)).unsqueeze(0)

    def _of_tensor(self, images: Tensor) -> Tensor:
        shape = self.description.preparation.shape
        images = images[None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(
                f"a tensor of pictures must be (picture, {', '.join(map(str, shape))}), got {tuple(images.shape)}; "
                "files, arrays and pictures of Pillow's may have any size"
            )
        if images.dtype == torch.uint8:
            return images
        if not images.is_floating_point() or not ((images >= 0) & (images <= 1)).all():
            raise ValueError("a tensor of pictures must hold bytes, or floats in [0, 1]")
        return images * 255

    @torch.inference_mode()
    def capsules(self, images: Float[Tensor, "picture channel height width"], batch_size: int = 256) -> Capsules:
        """Map prepared images to class capsules, `batch_size` at a time, on the network's device."""
        parts = [self.network(part) for part in torch.split(images, batch_size)]
        return Capsules(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def predict(self, pictures: Picture | Sequence[Picture], fit: Fit | None = None) -> Predictions:
        """Say what pictures show.

        Args:
            pictures, fit: see `prepare`.

        Raises:
            DataError, ValueError: see `prepare`.
        """
        return self.answer(self.prepare(pictures, fit))

    def answer(self, images: Float[Tensor, "picture channel height width"]) -> Predictions:
        """Say what prepared images show."""
        capsules = self.capsules(images)
        shown = self.description.labels_per_image
        labels = capsules.activations.topk(shown or len(self.class_names)).indices
        chosen = labels.tolist()
        if shown is None:
            labels = capsules.activations > self.description.threshold
            chosen = [row[:number] for row, number in zip(chosen, labels.sum(dim=1).tolist(), strict=True)]
        names = [tuple(self.class_names[label] for label in row) for row in chosen]
        scores = self.description.score(capsules.activations)
        return Predictions(labels.cpu(), names, scores.cpu(), capsules.poses.cpu())

    def features(
        self, pictures: Picture | Sequence[Picture], fit: Fit | None = None
    ) -> Float[Tensor, "picture feature"]:
        """Give the poses of all class capsules of pictures, one after another: features for another method.

        Args:
            pictures, fit: see `prepare`.

        Raises:
            DataError, ValueError: see `prepare`.
        """
        return self.capsules(self.prepare(pictures, fit)).poses.flatten(1).cpu()


def networks() -> list[str]:
    """Name the trained networks that come with the package: "DATA/ROUTER".

    The model.json of each, in `src/capsbench/networks`, has the command that trained it and its accuracy.

    >>> "fashion_mnist/fm" in networks()
    True
    """
    return sorted(path.parent.relative_to(NETWORKS).as_posix() for path in NETWORKS.glob(f"*/*/{DESCRIPTION}"))


def load(path: str | os.PathLike[str], *, own: Iterable[type[nn.Module]] | Mapping[str, Any] = ()) -> Classifier:
    """Load a trained network: from the folder of its run or a copy of its two files, or by name.

    It needs neither the data that it was trained on nor Hydra. Nothing that the files name is run but networks and
    routers of this package, and your own if you hand them over.

    Args:
        path: of the folder; or the name of a network that comes with the package, see `networks`. A folder counts more.
        own: classes that the network is made of and that this package does not have, or what makes them by the names
            in model.json.

    Raises:
        FileNotFoundError: the folder has no trained network.
        ValueError: a file is damaged or a link, the weights are not of this network, or it is made of other classes.

    >>> load("outputs/mine")
    Traceback (most recent call last):
    FileNotFoundError: outputs/mine has no model.json; name the folder of a finished run of capsbench train...
    >>> load("digits/fm").predict(torch.zeros(1, 1, 32, 32)).scores.shape
    torch.Size([1, 10])
    """
    folder = Path(path)
    if not (folder / DESCRIPTION).is_file():
        if str(path) not in networks():
            raise FileNotFoundError(
                f"{folder} has no {DESCRIPTION}; name the folder of a finished run of capsbench train, or one of the "
                f"networks of the package, {', '.join(networks())}"
            )
        folder = NETWORKS / folder
    description = Description.load(folder / DESCRIPTION)
    try:
        network = description.build(own)
    except ValueError as error:
        raise ValueError(f"{folder / DESCRIPTION}: {error}") from error
    try:
        check_regular(folder / WEIGHTS)
        network.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} has lost its weights, {WEIGHTS}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from error
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ValueError(f"{folder / WEIGHTS} is of another network than {DESCRIPTION} describes: {cause}") from error
    return Classifier(description, network)


def save(description: Description, network: nn.Module, folder: Path) -> None:
    """Write what `load` reads.

    Raises:
        WriteError: the disk is full.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with written_atomically(folder / WEIGHTS) as path:
        path.write_bytes(to_safetensors(weights))
    description.save(folder / DESCRIPTION)


def _of_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(
            "an array of a picture must be (height, width) or (height, width, 1 or 3), of bytes, got "
            f"{array.shape} of {array.dtype}"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
