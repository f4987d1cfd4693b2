"""The centripetal loss of HitNet: class capsules are drawn to the centre of the unit cube, or pushed away from it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.training.losses import Labels, Weights, check_single, multi_hot


class CentripetalLoss(nn.Module):
    """Penalise class capsules of present classes far from the cube's centre, and of absent classes near it.

    Costs are piecewise linear in the distance δ from the centre, which follows from the activation of `HitOrMiss`: none
    up to δ = `hit`, then the slope grows by `slope` from ring to ring. For absent classes the same holds inwards from
    δ = `miss`. Costs are summed over classes and averaged over the batch.

    Source: Deliège et al. 2018 (arXiv:1806.06519). The constants are those of a public implementation, since the
    paper's text was not at hand.

    Args:
        pose_dim: dimensions k of class capsules; a corner is √k/2 from the centre.
        hit: a present class costs nothing up to this distance.
        miss: an absent class costs nothing from this distance on.
        ring: width of a ring.
        slope: by which the cost of a unit of distance grows from ring to ring.
        down_weight: λ, weight of the absent classes.
        ghosts: the absent class nearest to the centre costs nothing, so that an image may hit a second class.

    Raises:
        ValueError: ring is not positive, pose_dim is below 1, or slope or down_weight is negative.

    >>> loss = CentripetalLoss(pose_dim=16)
    >>> loss(torch.tensor([[1.0, 0.2]]), torch.tensor([0]))  # activations (batch, class), labels (batch,)
    tensor(0.)
    """

    def __init__(
        self,
        pose_dim: int = 16,
        hit: float = 0.1,
        miss: float = 0.9,
        ring: float = 0.1,
        slope: float = 0.2,
        down_weight: float = 0.5,
        ghosts: bool = False,
    ) -> None:
        super().__init__()
        if not ring > 0:
            raise ValueError(f"loss.ring must be positive, got {ring}")
        for name, value, least in (("pose_dim", pose_dim, 1), ("slope", slope, 0), ("down_weight", down_weight, 0)):
            if not value >= least:
                raise ValueError(f"loss.{name} must be at least {least}, got {value}")
        self.corner = math.sqrt(pose_dim) / 2
        self.hit, self.miss = hit, miss
        self.ring, self.slope = ring, slope
        self.down_weight = down_weight
        self.ghosts = ghosts

    def forward(
        self,
        activations: Float[Tensor, "batch class"],
        labels: Labels,
        progress: float = 1.0,
        weights: Weights = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch. `progress` is unused; every loss has this signature.

        Raises:
            ValueError: examples have any number of labels: a threshold of activations would not tell them.
        """
        if labels.dtype == torch.bool:
            check_single(labels)
        costs = self.costs(activations, labels).sum(dim=1)
        return (costs if weights is None else weights * costs).mean()

    def costs(self, activations: Float[Tensor, "batch class"], labels: Labels) -> Float[Tensor, "batch class"]:
        """Return what each class of each example costs."""
        distance = self.corner * (1 - activations)
        is_present = multi_hot(labels, activations.shape[1]).bool()
        is_absent = ~is_present
        if self.ghosts:
            nearest = distance.masked_fill(is_present, torch.inf).argmin(dim=1, keepdim=True)
            is_absent = is_absent.scatter(1, nearest, False)
        missed = self.rings(distance - self.hit)
        near = self.rings(self.miss - distance)
        return is_present * missed + self.down_weight * is_absent * near

    def rings(self, beyond: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """Return the cost of a distance beyond where costs begin: ring r costs r · slope for each unit of distance."""
        beyond = beyond.clamp_min(0)
        whole = (beyond / self.ring).floor().detach()
        inner = self.ring * self.slope * whole * (whole + 1) / 2
        return inner + (whole + 1) * self.slope * (beyond - whole * self.ring)
