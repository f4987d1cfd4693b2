"""Invariance: how accuracy and the winning activation change under one transformation."""

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
"""The range to each side: twice that of affNIST."""
SHIFT_REACH = 0.3
"""The range to each side, as a share of the image: 12 pixels of 40, twice that of translated MNIST."""


@dataclass(frozen=True)
class Curve:
    """Accuracy and activation as functions of one parameter.

    Attributes:
        values: of the parameter: degrees, ratio, factor or pixels.
        accuracy: at each value, from 0 to 1.
        activation_change: the relative change of the mean activation of the class that wins without the transformation:
            0 is no change, −1 means that the activation is 0.
        accuracy_area: the area under `accuracy` divided by the width of the range: its mean.
        change_area: the same for the absolute value of `activation_change`.
    """

    values: list[float]
    accuracy: list[float]
    activation_change: list[float]
    accuracy_area: float
    change_area: float


def measure_invariance(
    module: ClassificationModule, data: ImageDataModule, examples: int = 1000, steps: int = 13
) -> dict[str, Curve]:
    """Measure accuracy and winning activation as functions of each parameter alone, over twice the range of affNIST.

    Args:
        module: trained.
        data: set up; a set with `untransformed_images`.
        examples: the largest number of test digits to use.
        steps: values of each parameter: an odd number of at least 3, so that the middle one is the identity.

    Returns:
        The curve of each parameter: rotation, shear, scale_x, scale_y, shift_x and shift_y.

    Raises:
        ValueError: the set has no untransformed images, or steps is not such a number.
    """
    check_steps(steps)
    digits = data.untransformed_images()
    images, labels = digits.images.cpu()[:examples], digits.labels.cpu()[:examples]
    size = data.image_shape[1]
    middle = steps // 2
    curves = {}
    for parameter in Affine._fields:
        values = parameter_values(parameter, size, steps)
        responses = [respond(module, data, _transformed(images, size, parameter, value)) for value in values]
        winner = responses[middle].winner[:, None]
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
    """Require an odd number of steps, so that the middle one is the identity.

    Raises:
        ValueError: the number is even or below 3.
    """
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"steps must be an odd number of at least 3, got {steps}")


def parameter_values(parameter: str, size: int, steps: int) -> list[float]:
    """Space values evenly about the identity; shifts are rounded to pixels."""
    if parameter.startswith("shift"):
        reach = round(SHIFT_REACH * size)
        return [float(round(value)) for value in np.linspace(-reach, reach, steps)]
    neutral = 1.0 if parameter.startswith("scale") else 0.0
    return [round(float(neutral + value), 6) for value in np.linspace(-REACH[parameter], REACH[parameter], steps)]


def _transformed(images: UInt8[Tensor, "batch 1 h w"], size: int, parameter: str, value: float) -> Tensor:
    """Transform images by one parameter, on a canvas of size × size."""
    changed = {parameter: torch.full((len(images),), value)}
    return transform(images, Affine.identity(len(images))._replace(**changed), size)
