"""Equivariance: how well a pose tells by how much a digit was rotated, sheared, scaled and shifted."""

from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from capsbench.data import ImageDataModule
from capsbench.data.affine import Affine, transform_at_random
from capsbench.data.randomness import Draw, permutation
from capsbench.training import ClassificationModule

ANALYSIS_SEED = 0
BATCH = 512
STRENGTHS = np.logspace(-2, 5, 15)
"""Of the ridge, chosen by leave-one-out within the half that is fitted."""
LARGEST_MAP = 10
"""Feature maps with more places in a direction are averaged down to so many."""
RESAMPLED = 1000
FEWEST_EXAMPLES = 100
"""For a regression."""


class RSquared(NamedTuple):
    """Explained share of variance on digits that were not fitted, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Responses(NamedTuple):
    """What a network makes of images: the winning capsule's pose, all activations, and the features before."""

    winner: Float[Tensor, "example"]
    pose: Float[Tensor, "example dim"]
    activations: Float[Tensor, "example class"]
    features: Float[Tensor, "example feature"]

    def predictors(self) -> dict[str, Float[Tensor, "example _"]]:
        """What transformations are predicted from, by name.

        `pose` is the winning pose, 16 numbers, read by one map for all classes; `pose per class` reads the same numbers
        by one map per winning class, since each class capsule has coordinates of its own. `features` are those that
        the primary capsules are made of, the upper reference; `activations` alone the lower one.
        """
        by_class = F.one_hot(self.winner.long(), self.activations.shape[1]).to(self.pose.dtype)
        per_class = torch.einsum("nc,nd->ncd", by_class, self.pose).flatten(1)
        return {
            "pose": self.pose,
            "pose per class": torch.cat([per_class, by_class], dim=1),
            "features": self.features,
            "activations": self.activations,
        }


def measure_equivariance(
    module: ClassificationModule, data: ImageDataModule, examples: int = 5000
) -> dict[str, dict[str, RSquared]]:
    """R² of each parameter of a random affine transformation, predicted linearly from each of `Responses.predictors`.

    Test digits are transformed as affNIST's were; ridge regression is fitted on half of them and judged on the other.

    Args:
        module: trained; its model has `primary`, the layer that makes primary capsules of features.
        data: set up, of a set with `untransformed_images`.
        examples: digits, at most; at least 100.

    Returns:
        For each predictor the R² of rotation, shear, scale_x, scale_y, shift_x and shift_y.

    Raises:
        ValueError: the set has no plain images; there are fewer than 100 examples.
    """
    digits = data.untransformed_images().images.cpu()[:examples]
    if len(digits) < FEWEST_EXAMPLES:
        raise ValueError(f"examples must be at least {FEWEST_EXAMPLES} for a regression, got {len(digits)}")
    draw = Draw(ANALYSIS_SEED, 0, torch.arange(len(digits)))
    images, affine = transform_at_random(digits, draw, data.image_shape[1])
    responses = respond(module, data, images)
    order = permutation((ANALYSIS_SEED, "halves"), len(digits)).numpy()
    fitted, judged = np.array_split(order, 2)
    targets = torch.stack(affine, dim=1).double().numpy()
    varying = targets.std(axis=0) > 0
    found = {}
    for name, predictor in responses.predictors().items():
        x = predictor.double().numpy()
        ridge = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
        predicted = np.zeros_like(targets[judged])
        predicted[:, varying] = ridge.fit(x[fitted], targets[fitted][:, varying]).predict(x[judged])
        found[name] = {
            parameter: _r_squared(targets[judged, column], predicted[:, column])
            for column, parameter in enumerate(Affine._fields)
            if varying[column]
        }
    return found


def respond(module: ClassificationModule, data: ImageDataModule, images: Tensor) -> Responses:
    """Run bytes (example, 1, height, width) through a network, a batch at a time."""
    batches = []
    caught: list[Tensor] = []
    primary: nn.Module = module.model.primary  # type: ignore[assignment]
    hook = primary.register_forward_pre_hook(lambda _module, inputs: caught.append(_pooled(inputs[0])))
    try:
        for part in torch.split(images, BATCH):
            poses, activations = module.predict(data.test_images(part))
            winner = activations.argmax(dim=1)
            won = poses[torch.arange(len(poses), device=poses.device), winner]
            batches.append([tensor.float().cpu() for tensor in (winner, won, activations, caught.pop())])
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
        n_resamples=RESAMPLED,
        method="percentile",
        rng=np.random.default_rng(ANALYSIS_SEED),
    ).confidence_interval
    return RSquared(float(r_squared(true, predicted)), float(interval.low), float(interval.high))


def r_squared(true: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """1 − residual variance / variance, along an axis. At most 1; below 0 where the mean would have been better."""
    residual = np.square(true - predicted).sum(axis=axis)
    return 1 - residual / np.square(true - true.mean(axis=axis, keepdims=True)).sum(axis=axis)
