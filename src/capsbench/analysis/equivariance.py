"""Equivariance: how well a pose predicts the rotation, shear, scale and shift of a digit."""

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
"""Strengths of the ridge, from which leave-one-out on the fitted half chooses."""
LARGEST_MAP = 10
"""Feature maps that are larger in a direction are averaged down to this size."""
BOOTSTRAP_SAMPLES = 1000
FEWEST_EXAMPLES = 100
"""The least number that a regression needs."""


class RSquared(NamedTuple):
    """The explained share of the variance on digits that were not fitted, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class Responses(NamedTuple):
    """Outputs of a network: the winning class, its pose, all activations, and the features before the capsules."""

    winner: Float[Tensor, "example"]
    pose: Float[Tensor, "example dim"]
    activations: Float[Tensor, "example class"]
    features: Float[Tensor, "example feature"]

    def predictors(self) -> dict[str, Float[Tensor, "example _"]]:
        """Give what transformations are predicted from, by name.

        `pose` is the winning pose, with one linear map for all classes. `pose per class` is the same pose with one map
        for each winning class, since each class capsule has its own coordinates. `features`, the input of the primary
        capsules, are the upper reference; `activations` are the lower one.
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
    """Measure how well each of `Responses.predictors` predicts the parameters of a random affine transformation.

    Test digits are transformed as in affNIST. Ridge regression is fitted on half of them and evaluated on the others.

    Args:
        module: trained; its model has `primary`, the layer that turns features into primary capsules.
        data: set up; a set with `untransformed_images`.
        examples: the largest number of digits to use; at least 100.

    Returns:
        For each predictor the R² of rotation, shear, scale_x, scale_y, shift_x and shift_y.

    Raises:
        ValueError: the set has no untransformed images, or fewer than 100 of them.
    """
    digits = data.untransformed_images().images.cpu()[:examples]
    if len(digits) < FEWEST_EXAMPLES:
        raise ValueError(f"examples must be at least {FEWEST_EXAMPLES} for a regression, got {len(digits)}")
    draw = Draw(ANALYSIS_SEED, 0, torch.arange(len(digits)))
    images, affine = transform_at_random(digits, draw, data.image_shape[1])
    responses = respond(module, data, images)
    order = permutation((ANALYSIS_SEED, "halves"), len(digits)).numpy()
    fitted, evaluated = np.array_split(order, 2)
    targets = torch.stack(affine, dim=1).double().numpy()
    varying = targets.std(axis=0) > 0
    found = {}
    for name, predictor in responses.predictors().items():
        x = predictor.double().numpy()
        ridge = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
        predicted = np.zeros_like(targets[evaluated])
        predicted[:, varying] = ridge.fit(x[fitted], targets[fitted][:, varying]).predict(x[evaluated])
        found[name] = {
            parameter: _r_squared(targets[evaluated, column], predicted[:, column])
            for column, parameter in enumerate(Affine._fields)
            if varying[column]
        }
    return found


def respond(module: ClassificationModule, data: ImageDataModule, images: Tensor) -> Responses:
    """Run bytes (example, 1, height, width) through a network, one batch after the other."""
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
        n_resamples=BOOTSTRAP_SAMPLES,
        method="percentile",
        rng=np.random.default_rng(ANALYSIS_SEED),
    ).confidence_interval
    return RSquared(float(r_squared(true, predicted)), float(interval.low), float(interval.high))


def r_squared(true: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray | np.floating:
    """Compute 1 − residual variance / variance along an axis: at most 1, below 0 if the mean predicts better."""
    residual = np.square(true - predicted).sum(axis=axis)
    return 1 - residual / np.square(true - true.mean(axis=axis, keepdims=True)).sum(axis=axis)
