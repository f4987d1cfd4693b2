"""What data sets there are, whether they are here, and what they look like."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from capsbench.data import BatchKey, ImageDataModule
from capsbench.data.batch import SplitName

COLUMNS = 10


def contact_sheet(data: ImageDataModule) -> Figure:
    """Samples with their labels, four rows: training images as stored, in two epochs as the network sees them, test.

    Args:
        data: set up.
    """
    train, test = data.num_examples("train"), data.num_examples("test")
    chosen = torch.linspace(0, train - 1, min(COLUMNS, train)).long()
    stored = torch.linspace(0, len(data.splits["train"].labels) - 1, min(COLUMNS, train)).long()
    rows: list[tuple[str, Tensor, Tensor]] = [
        ("stored", data.splits["train"].images[stored].float(), data.splits["train"].labels[stored])
    ]
    wanted: list[tuple[str, SplitName, int, Tensor]] = [
        ("epoch 1", "train", 0, chosen),
        ("epoch 2", "train", 1, chosen),
        ("test", "test", 0, torch.linspace(0, test - 1, min(COLUMNS, test)).long()),
    ]
    for name, split, epoch, indices in wanted:
        batch = data.batch(split, BatchKey(epoch, indices))
        rows.append((name, batch.images, batch.labels))

    figure = Figure(figsize=(COLUMNS, 1.3 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for axes, (name, images, labels) in zip(grid, rows, strict=True):
        for ax in axes:
            ax.set_axis_off()
        axes[0].text(-0.15, 0.5, name, rotation=90, va="center", ha="right", transform=axes[0].transAxes)
        for ax, image, label in zip(axes, images, labels, strict=False):
            low, high = image.min(), image.max()
            shown = ((image - low) / (high - low).clamp_min(1e-9)).permute(1, 2, 0)
            ax.imshow(shown.expand(-1, -1, 3), interpolation="nearest")
            ax.set_title(", ".join(str(one) for one in label.reshape(-1).tolist()), fontsize=8)
    figure.suptitle(data.title)
    return figure


def write_contact_sheet(data: ImageDataModule, path: Path) -> None:
    """Write `contact_sheet` as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(data).savefig(path, dpi=120)
