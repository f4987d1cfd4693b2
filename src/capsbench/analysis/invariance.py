"""Invariance: what one transformation alone does to accuracy and to the winning activation."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from capsbench.analysis.equivariance import respond
from capsbench.data import ImageDataModule
from capsbench.data.affine import Affine, transform
from capsbench.training import ClassificationModule

REACH = {"rotation": 40.0, "shear": 0.4, "scale_x": 0.4, "scale_y": 0.4}
"""To each side: twice affNIST's ranges."""
SHIFT_REACH = 0.3
"""Of the image's side: 12 pixels of 40, twice what translated MNIST is trained with."""


@dataclass(frozen=True)
class Curve:
    """Responses along one parameter.

    Attributes:
        values: of the parameter: degrees, ratio, factor or pixels.
        accuracy: shares of 1.
        activation_change: the mean activation of the class that wins without the transformation, relative to what it
            is without: 0 is no change, −1 is gone.
        accuracy_area: the area under `accuracy`, divided by the width of the range: the mean over it.
        change_area: the same of the size of `activation_change`.
    """

    values: list[float]
    accuracy: list[float]
    activation_change: list[float]
    accuracy_area: float
    change_area: float


def measure_invariance(
    module: ClassificationModule, data: ImageDataModule, examples: int = 1000, steps: int = 13
) -> dict[str, Curve]:
    """Accuracy and winning activation as functions of each parameter alone, over twice the range that affNIST has.

    Args:
        module: trained.
        data: set up, of a set with `untransformed_images`.
        examples: test digits, at most.
        steps: values of each parameter; an odd number of at least 3, so that no change is among them.

    Raises:
        ValueError: the set has no plain images, or steps is not such a number.
    """
    check_steps(steps)
    digits = data.untransformed_images()
    images, labels = digits.images.cpu()[:examples], digits.labels.cpu()[:examples]
    size = data.image_shape[1]
    middle = steps // 2
    curves = {}
    for parameter in Affine._fields:
        values = parameter_values(parameter, size, steps)
        responses = [respond(module, data, changed(images, size, parameter, value)) for value in values]
        winner = responses[middle].winner.long()[:, None]
        activation = np.array([response.activations.gather(1, winner).mean().item() for response in responses])
        accuracy = np.array([(response.winner == labels).float().mean().item() for response in responses])
        change = activation / activation[middle] - 1
        width = values[-1] - values[0]
        curves[parameter] = Curve(
            values=values,
            accuracy=accuracy.tolist(),
            activation_change=change.tolist(),
            accuracy_area=float(np.trapezoid(accuracy, values) / width),
            change_area=float(np.trapezoid(np.abs(change), values) / width),
        )
    return curves


def check_steps(steps: int) -> None:
    """Make sure that among so many values the one of no change has as many on either side.

    Raises:
        ValueError: it has not.
    """
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"steps must be an odd number of at least 3, got {steps}")


def parameter_values(parameter: str, size: int, steps: int) -> list[float]:
    """Evenly spaced values about that of no change; shifts in whole pixels."""
    if parameter.startswith("shift"):
        reach = round(SHIFT_REACH * size)
        return [float(round(value)) for value in np.linspace(-reach, reach, steps)]
    neutral = 1.0 if parameter.startswith("scale") else 0.0
    return [round(float(neutral + value), 6) for value in np.linspace(-REACH[parameter], REACH[parameter], steps)]


def changed(images: UInt8[Tensor, "batch 1 h w"], size: int, parameter: str, value: float) -> Tensor:
    """Images with one parameter set, all others left as they are, on a canvas of size × size."""
    nothing = Affine.nothing(len(images))
    return transform(images, nothing._replace(**{parameter: torch.full((len(images),), value)}), size)
