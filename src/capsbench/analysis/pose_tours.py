"""Pose tours: what a decoder makes of a pose while one dimension after the other varies."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from capsbench.analysis.reconstructions import decoder_of, searched_batch
from capsbench.data import ImageDataModule
from capsbench.training import ClassificationModule
from capsbench.training.module import most_active

STEPS = 11
REACH = 2.0
"""Standard deviations to each side. Sabour et al. vary by ±0.25, which suits poses of length at most 1."""


@torch.no_grad()
def pose_tours(module: ClassificationModule, data: ImageDataModule) -> dict[int, Figure]:
    """Show each class on a sheet: its pose in one example, with one dimension after the other varied, decoded.

    The example is the first test image whose class is recognised. A dimension varies in 11 steps by up to two of its
    standard deviations to each side, taken over all searched test images whose class is recognised. A class that is
    recognised in fewer than two images has no sheet.

    Args:
        module: trained, with a decoder.
        data: set up.

    Returns:
        The sheet of each class, by its number.

    Raises:
        ValueError: the run has no decoder.
    """
    decoder = decoder_of(module)
    batch = searched_batch(data)
    poses, activations = module.predict(batch.images)
    labels = batch.labels.reshape(len(activations), -1).to(poses.device)
    predicted = most_active(activations, labels.shape[1])
    tours = {}
    for number in range(data.num_classes):
        recognised = ((labels == number).any(dim=1) & (predicted == number).any(dim=1)).nonzero()[:, 0]
        if len(recognised) < 2:
            continue
        own = poses[recognised, number]
        steps = torch.arange(STEPS).to(own) / (STEPS // 2) * REACH - REACH
        offsets = torch.einsum("s,dk->dsk", steps, torch.diag(own.std(dim=0)))
        varied = poses[recognised[:1]].repeat(offsets[..., 0].numel(), 1, 1)
        varied[:, number] += offsets.flatten(0, 1)
        decoded = decoder(varied, torch.full((len(varied), 1), number, device=own.device))
        tours[number] = _sheet(data.names[number], decoded[:, 0].float().cpu())
    return tours


def _sheet(name: str, decoded: Float[Tensor, "step channel height width"]) -> Figure:
    height, width = decoded.shape[2:]
    dimensions = len(decoded) // STEPS
    figure = Figure(figsize=(0.5 * STEPS + 0.8, 0.5 * dimensions + 0.8), layout="constrained")
    ax = figure.subplots()
    grid = make_grid(decoded.clamp(0, 1), nrow=STEPS, padding=1, pad_value=0.5)
    ax.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set_xticks(
        [(width + 1) * (step + 0.5) for step in (0, STEPS // 2, STEPS - 1)],
        labels=[f"−{REACH:.0f} σ", "pose", f"+{REACH:.0f} σ"],
    )
    ax.set_yticks([(height + 1) * (d + 0.5) for d in range(dimensions)], labels=[str(d + 1) for d in range(dimensions)])
    ax.set(ylabel="Dimension of the pose", title=f"Class {name}")
    ax.tick_params(length=0)
    return figure
