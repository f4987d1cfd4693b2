"""Sheets of images in rows: contact sheets of data sets, and the layout of reconstructions."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure, FigureBase
from torch import Tensor

from capsbench.data import BatchKey, ImageDataModule
from capsbench.data.files import written_atomically
from capsbench.data.transforms import stretch

COLUMNS = 10
INK = "#777"
"""Legible on white and on black: sheets have no background of their own."""


class Caption(NamedTuple):
    """A line or more above an image; red where the prediction is wrong."""

    text: str
    wrong: bool = False


class Row(NamedTuple):
    """A named row of images (channel, height, width), with captions or without. All above 1 is shown as 1."""

    name: str
    images: Iterable[Float[Tensor, "channel height width"]]
    captions: Sequence[Caption] = ()


def show_rows(figure: FigureBase, rows: Sequence[Row], columns: int = COLUMNS) -> None:
    """Fill a figure with rows of images; places without an image stay empty."""
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for ax in axes:
            ax.set_axis_off()
        axes[0].text(-0.15, 0.5, row.name, color=INK, rotation=90, va="center", ha="right", transform=axes[0].transAxes)
        for ax, image in zip(axes, row.images, strict=False):
            shown = image.clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3).cpu().numpy()
            ax.imshow(shown, vmin=0, vmax=1, interpolation="nearest")
        for ax, caption in zip(axes, row.captions, strict=False):
            ax.set_title(caption.text, fontsize=8, color="#d33" if caption.wrong else INK)


def write_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as a PNG without a background, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", transparent=True)


def write_contact_sheet(data: ImageDataModule, path: Path) -> None:
    """Write samples with their labels: training images as stored and in two epochs, and test images.

    Args:
        data: set up.
        path: of the PNG.
    """

    def spread(number: int) -> Tensor:
        return torch.linspace(0, number - 1, min(COLUMNS, number), device=data.device).long()

    def row(name: str, images: Tensor, labels: Tensor) -> Row:
        shown = (label.nonzero() if label.dtype == torch.bool else label for label in labels)
        named = [[data.names[number] for number in numbers.reshape(-1).tolist()] for numbers in shown]
        return Row(name, stretch(images), [Caption(", ".join(names) or "–") for names in named])

    train = data.splits["train"]
    some = spread(len(train.labels))
    batches = {
        "epoch 1": data.batch("train", BatchKey(0, spread(data.num_examples("train")))),
        "epoch 2": data.batch("train", BatchKey(1, spread(data.num_examples("train")))),
        "test": data.batch("test", BatchKey(0, spread(data.num_examples("test")))),
    }
    rows = [row("stored", train.images[some].float(), train.labels[some])]
    rows += [row(name, batch.images, batch.labels) for name, batch in batches.items()]
    write_rows(rows, path, data.title)


def write_rows(rows: Sequence[Row], path: Path, title: str | None = None) -> None:
    """Write rows of images as a PNG."""
    figure = Figure(figsize=(COLUMNS, 1.3 * len(rows)), layout="constrained")
    show_rows(figure, rows)
    if title is not None:
        figure.suptitle(title, color=INK)
    write_figure(figure, path, dpi=120)
