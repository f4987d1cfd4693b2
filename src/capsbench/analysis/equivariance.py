"""Equivariance: how well poses tell by how much two images of one digit are rotated, sheared, scaled and shifted."""

from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from capsbench.analysis.moments import image_moments
from capsbench.data import ImageDataModule
from capsbench.data.affine import Affine, transform_at_random
from capsbench.data.randomness import Draw, permutation
from capsbench.training import ClassificationModule

ANALYSIS_SEED = 0
BATCH = 512
STRENGTHS = np.logspace(-2, 5, 15)
"""Strengths of the ridge, from which leave-one-out on the fitted half chooses."""
LARGEST_MAP = 10
"""Feature maps that are larger in a direction are averaged down to this size."""
BOOTSTRAP_SAMPLES = 1000
FEWEST_EXAMPLES = 100
"""The least number that a regression needs."""


class RSquared(NamedTuple):
    """The explained share of the variance on digits that were not fitted, with a 95 % bootstrap interval over them."""

    value: float
    low: float
    high: float
    digits: int
    """How many were not fitted."""


class Responses(NamedTuple):
    """Outputs of a network: poses and activations of all classes, and the features before the capsules."""

    poses: Float[Tensor, "example class dim"]
    activations: Float[Tensor, "example class"]
    features: Float[Tensor, "example feature"]

    @property
    def winner(self) -> Int64[Tensor, "example"]:
        """The class with the largest activation."""
        return self.activations.argmax(dim=1)


def measure_equivariance(
    module: ClassificationModule, data: ImageDataModule, examples: int = 5000
) -> dict[str, dict[str, RSquared]]:
    """Measure how well a difference of poses tells the difference of two transformations of one digit.

    Each test digit is transformed twice as in affNIST, by independent draws. Ridge regression from what differs between
    the two images to what differs between the transformations is fitted on half of the digits and evaluated on the
    others. How a digit was written, its natural slant (13° in MNIST, as large as the rotations), is the same in both
    images and drops out. From single images even `image_moments` explain little of the rotation.

    Args:
        module: trained; its model has `primary`, the layer that turns features into primary capsules.
        data: set up; a set with `untransformed_images`.
        examples: the largest number of digits to use; at least 100.

    Returns:
        For each of `differences` the R² of rotation, shear, scale_x, scale_y, shift_x and shift_y, with an interval by
        bootstrap over the digits that were not fitted.

    Raises:
        ValueError: the set has no untransformed images, or fewer than 100 of them; the model has no `primary`.
    """
    if not hasattr(module.model, "primary"):
        raise ValueError(
            f"{type(module.model).__name__} has no layer of primary capsules, with whose input poses are compared; "
            "take a run of another arch"
        )
    digits, labels = (part.cpu()[:examples] for part in data.untransformed_images())
    if len(digits) < FEWEST_EXAMPLES:
        raise ValueError(f"examples must be at least {FEWEST_EXAMPLES} for a regression, got {len(digits)}")
    indices = torch.arange(len(digits))
    (images, affine), (others, other_affine) = (
        transform_at_random(digits, Draw(ANALYSIS_SEED, epoch, indices), data.image_shape[1]) for epoch in (0, 1)
    )
    target = torch.stack(affine, dim=1) - torch.stack(other_affine, dim=1)
    first, second = respond(module, data, images), respond(module, data, others)
    moments = image_moments(images) - image_moments(others)
    found = {}
    for name, predictor in differences(first, second, moments, labels).items():
        of_parameters = explained(predictor, target)
        found[name] = {
            parameter: r2 for parameter, r2 in zip(Affine._fields, of_parameters, strict=True) if r2 is not None
        }
    return found


def differences(
    first: Responses, second: Responses, moments: Float[Tensor, "example moment"], labels: Int64[Tensor, "example"]
) -> dict[str, Float[Tensor, "example _"]]:
    """Give what differs between two images of each digit, by name.

    `pose` is the pose of the digit's own class, with one linear map for all classes; `pose per class` is the same pose
    with one map for each class, since each class capsule has its own coordinates. Beside them stand `moments`, exact
    moments of the images with one map for each class: the ceiling for as many numbers as a pose has, read this way.
    `features`, the input of the primary capsules, and `activations`, which hold no pose, are references.
    """
    rows = torch.arange(len(labels))
    pose = first.poses[rows, labels] - second.poses[rows, labels]

    def per_class(difference: Float[Tensor, "example dim"]) -> Float[Tensor, "example _"]:
        by_class = F.one_hot(labels, int(labels.max()) + 1).to(difference.dtype)
        return torch.einsum("nc,nd->ncd", by_class, difference).flatten(1)

    return {
        "pose": pose,
        "pose per class": per_class(pose),
        "moments": per_class(moments),
        "features": first.features - second.features,
        "activations": first.activations - second.activations,
    }


def explained(
    predictor: Float[Tensor, "example feature"], target: Float[Tensor, "example parameter"]
) -> list[RSquared | None]:
    """Fit ridge regression on half of the examples; return the R² of each parameter on the others, None if constant."""
    order = permutation((ANALYSIS_SEED, "halves"), len(target)).numpy()
    fitted, evaluated = np.array_split(order, 2)
    x, y = predictor.double().numpy(), target.double().numpy()
    varying = y.std(axis=0) > 0
    ridge = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
    predicted = np.zeros_like(y[evaluated])
    if varying.any():
        found = ridge.fit(x[fitted], y[fitted][:, varying]).predict(x[evaluated])
        predicted[:, varying] = found.reshape(len(evaluated), -1)
    return [
        _r_squared(y[evaluated, column], predicted[:, column]) if varying[column] else None
        for column in range(y.shape[1])
    ]


def respond(module: ClassificationModule, data: ImageDataModule, images: Tensor) -> Responses:
    """Run bytes (example, 1, height, width) through a network, one batch after the other."""
    batches = []
    caught: list[Tensor] = []
    primary: nn.Module = module.model.primary  # type: ignore[assignment]
    hook = primary.register_forward_pre_hook(lambda _module, inputs: caught.append(_pooled(inputs[0])))
    try:
        for part in torch.split(images, BATCH):
            poses, activations = module.predict(data.test_images(part))
            batches.append([tensor.float().cpu() for tensor in (poses, activations, caught.pop())])
    finally:
        hook.remove()
    return Responses(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))


def _pooled(features: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch feature"]:
    size = (min(features.shape[2], LARGEST_MAP), min(features.shape[3], LARGEST_MAP))
    return F.adaptive_avg_pool2d(features, size).flatten(1)


def _r_squared(true: np.ndarray, predicted: np.ndarray) -> RSquared:
    interval = scipy.stats.bootstrap(
        (true, predicted),
        r_squared,
        paired=True,
        vectorized=True,
        n_resamples=BOOTSTRAP_SAMPLES,
        method="percentile",
        rng=np.random.default_rng(ANALYSIS_SEED),
    ).confidence_interval
    return RSquared(float(r_squared(true, predicted)), float(interval.low), float(interval.high), len(true))


def r_squared(true: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Compute 1 − residual variance / variance along an axis: at most 1, below 0 if the mean predicts better."""
    residual = np.square(true - predicted).sum(axis=axis)
    return 1 - residual / np.square(true - true.mean(axis=axis, keepdims=True)).sum(axis=axis)
