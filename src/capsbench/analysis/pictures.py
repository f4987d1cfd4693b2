"""The pictures of a run: reconstructions and pose tours, written as PNG."""

from collections.abc import Sequence
from pathlib import Path

import torch

from capsbench.analysis.pose_tours import pose_tours
from capsbench.analysis.reconstructions import (
    check_classes,
    overlay_sheet,
    reconstruct,
    reconstruction_sheet,
    two_digit_examples,
)
from capsbench.analysis.sheets import COLUMNS, write_figure
from capsbench.data import ImageDataModule
from capsbench.training import ClassificationModule


def write_pictures(
    module: ClassificationModule, data: ImageDataModule, folder: Path, classes: Sequence[int] | None = None
) -> list[Path]:
    """Write the pictures of a trained run as PNG: reconstructions, and a pose tour for each class.

    Args:
        module: trained, with a decoder.
        data: set up.
        folder: to write to.
        classes: reconstruct from the poses of these classes, and leave out pose tours; see `two_digit_examples`.

    Returns:
        The files, the reconstructions first.

    Raises:
        ValueError: the run has no decoder; classes are not classes of the data.
    """
    check_classes(classes, data)
    if data.labels_per_image == 2:
        sheet = overlay_sheet(*two_digit_examples(module, data, classes), data.names)
    else:
        kinds = {}
        for name, batch in data.showcase(COLUMNS).items():
            chosen = None if classes is None else torch.tensor([list(classes)]).expand(len(batch.images), -1)
            title = name if classes is None else f"{name}, decoded from the pose of class {data.names[classes[0]]}"
            kinds[title] = reconstruct(module, batch, chosen)
        sheet = reconstruction_sheet(kinds, data.names)
    figures = {"reconstructions": sheet}
    if classes is None:
        figures |= {f"pose_tour_{number}": tour for number, tour in pose_tours(module, data).items()}
    for name, figure in figures.items():
        write_figure(figure, folder / f"{name}.png", dpi=90)
    return [folder / f"{name}.png" for name in figures]
