"""Pictures of what poses hold: the paper's tables 4 and 5, and a tour through each dimension of a pose."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.utils import make_grid

from capsbench.data import Batch, BatchKey, ImageDataModule
from capsbench.training import ClassificationModule
from capsbench.training.module import most_active

COLUMNS = 10
SEARCHED = 2048
"""Test examples among which right and wrong predictions are looked for."""
TOUR_STEPS = 11
TOUR_REACH = 2.0
"""Standard deviations to each side. Sabour et al. vary by ±0.25, which fits poses no longer than 1."""
COLORS = torch.tensor([[0.1, 1.0, 0.1], [1.0, 0.0, 0.9]])
"""Red, green, blue of the first and the second reconstruction: where both have ink it is white."""


class Reconstruction(NamedTuple):
    """A batch and what was drawn from the poses of the chosen classes."""

    batch: Batch
    labels: Int64[Tensor, "batch several"]
    predicted: Int64[Tensor, "batch several"]
    chosen: Int64[Tensor, "batch several"]
    drawn: Float[Tensor, "batch several channel height width"]


@torch.no_grad()
def reconstruct(
    module: ClassificationModule, batch: Batch, chosen: Int64[Tensor, "batch several"] | None = None
) -> Reconstruction:
    """Draw a batch from the poses of the predicted classes, or of others.

    Args:
        module: with a decoder.
        batch: to reconstruct.
        chosen: classes whose poses to decode; None: the predicted ones.

    Raises:
        ValueError: the run has no decoder.
    """
    decoder = decoder_of(module)
    poses, activations = module.predict(batch.images)
    labels = batch.labels.reshape(len(activations), -1).to(poses.device)
    predicted = most_active(activations, labels.shape[1])
    chosen = predicted if chosen is None else chosen.to(poses.device)
    drawn = decoder(poses, chosen).float()
    return Reconstruction(batch, *(tensor.cpu() for tensor in (labels, predicted, chosen, drawn)))


def decoder_of(module: ClassificationModule) -> nn.Module:
    """The decoder of a module.

    Raises:
        ValueError: it has none.
    """
    if module.decoder is None:
        raise ValueError("the run has no decoder to draw with; train one with decoder=deconv or decoder=dense")
    return module.decoder


def reconstruction_sheet(kinds: Mapping[str, Reconstruction]) -> Figure:
    """Inputs over what was drawn of them (the paper's table 4), two rows for each kind of examples."""
    figure = Figure(figsize=(COLUMNS, 2.9 * len(kinds)), layout="constrained")
    for part, (name, shown) in zip(figure.subfigures(len(kinds), 1, squeeze=False)[:, 0], kinds.items(), strict=True):
        part.suptitle(name)
        grid = part.subplots(2, COLUMNS, squeeze=False)
        for axes, row_name in zip(grid, ("input", "output"), strict=True):
            _name_row(axes, row_name)
        targets = shown.batch.targets[:, 0].cpu()
        columns = zip(targets, shown.drawn[:, 0], shown.labels, shown.predicted, strict=True)
        for (above, below), (image, drawn, label, predicted) in zip(grid.T, columns, strict=False):
            _show(above, image)
            _show(below, drawn)
            wrong = not label.equal(predicted)
            below.set_title(f"L:{label.item()} P:{predicted.item()}", fontsize=8, color="firebrick" if wrong else "0.2")
    return figure


def overlay_sheet(shown: Reconstruction, forced: Sequence[bool]) -> Figure:
    """Merged images over both reconstructions, one in green and one in magenta (the paper's table 5).

    Args:
        shown: examples of two classes.
        forced: which of them were drawn from classes that are not the prediction; they get a star.
    """
    columns = min(COLUMNS, len(forced))
    rows = -(-len(forced) // columns)
    figure = Figure(figsize=(1.35 * columns, 3.6 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for place, star in enumerate(forced):
        row, column = divmod(place, columns)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        _show(above, shown.batch.images[place].cpu())
        overlaid = torch.einsum("schw,sr->rhw", shown.drawn[place], COLORS)
        _show(below, overlaid.clamp_max(1.0))
        label, predicted, chosen = (
            f"({', '.join(map(str, which[place].tolist()))})" for which in (shown.labels, shown.predicted, shown.chosen)
        )
        wrong = not _same(shown.labels[place], shown.predicted[place])
        below.set_title(
            f"{'*' if star else ''}R:{chosen}\nL:{label}\nP:{predicted}",
            fontsize=8,
            color="firebrick" if wrong else "0.2",
        )
    return figure


def two_digit_examples(
    module: ClassificationModule, data: ImageDataModule, classes: Sequence[int] | None = None
) -> tuple[Reconstruction, list[bool]]:
    """The examples of table 5: right predictions, wrong ones drawn as predicted, and some drawn from another class.

    The last are right predictions, drawn from the first label and from a class that is neither label nor prediction;
    or from `classes`, one of which is a label.

    Args:
        module: trained on two labels per image, with a decoder.
        data: set up.
        classes: two classes to draw in the last columns.

    Raises:
        ValueError: classes are not two different classes of the data; the run has no decoder.
    """
    check_classes(classes, data)
    searched = data.batch(
        "test", BatchKey(0, torch.arange(min(SEARCHED, data.num_examples("test")), device=data.device))
    )
    found = reconstruct(module, searched)
    right = torch.tensor([_same(*pair) for pair in zip(found.labels, found.predicted, strict=True)])
    fits = right
    if classes is not None:
        one_is_label = (found.labels.unsqueeze(2) == torch.tensor(list(classes))).sum(dim=(1, 2)) == 1
        fits = right & one_is_label if (right & one_is_label).any() else right
    plain, wrong = right.nonzero()[:10, 0], (~right).nonzero()[:5, 0]
    forced = fits.nonzero()[10:15, 0] if classes is None else fits.nonzero()[:5, 0]
    chosen = found.predicted.clone()
    for example in plain.tolist():
        chosen[example] = found.labels[example]
    other = chosen.clone()
    for example in forced.tolist():
        first, second = found.labels[example].tolist()
        neither = next(c % data.num_classes for c in range(second + 1, second + 3) if c % data.num_classes != first)
        other[example] = torch.tensor(list(classes) if classes is not None else [first, neither])
    order = torch.cat([plain, wrong, forced])
    picked = Batch(*(part[order.to(part.device)] for part in searched))
    star = [False] * (len(plain) + len(wrong)) + [True] * len(forced)
    return reconstruct(module, picked, torch.cat([chosen[plain], chosen[wrong], other[forced]])), star


def check_classes(classes: Sequence[int] | None, data: ImageDataModule) -> None:
    """Make sure that classes to draw are different ones, as many as the data has labels per image.

    Raises:
        ValueError: they are not.
    """
    if classes is None:
        return
    wanted = data.labels_per_image
    if len(classes) != wanted or len(set(classes)) != wanted or not all(0 <= c < data.num_classes for c in classes):
        what = f"{wanted} different classes" if wanted > 1 else "one class"
        raise ValueError(f"classes must be {what} from 0 to {data.num_classes - 1}, got {list(classes)}")


@torch.no_grad()
def pose_tours(module: ClassificationModule, data: ImageDataModule) -> dict[int, Figure]:
    """For each class a sheet: its pose in one example, each dimension in turn varied in 11 steps, decoded.

    The example is the first test image in which the class is recognised; the reach is two standard deviations of the
    dimension, over all test images searched in which it is, to each side. Classes never recognised have no sheet.

    Raises:
        ValueError: the run has no decoder.
    """
    decoder = decoder_of(module)
    indices = torch.arange(min(SEARCHED, data.num_examples("test")), device=data.device)
    batch = data.batch("test", BatchKey(0, indices))
    poses, activations = module.predict(batch.images)
    labels = batch.labels.reshape(len(activations), -1).to(poses.device)
    predicted = most_active(activations, labels.shape[1])
    tours = {}
    for number in range(data.num_classes):
        recognised = ((labels == number).any(dim=1) & (predicted == number).any(dim=1)).nonzero()[:, 0]
        if len(recognised) < 2:
            continue
        own = poses[recognised, number]
        steps = torch.arange(TOUR_STEPS).to(own) / (TOUR_STEPS // 2) * TOUR_REACH - TOUR_REACH
        offsets = torch.einsum("s,dk->dsk", steps, torch.diag(own.std(dim=0)))
        varied = poses[recognised[:1]].repeat(offsets[..., 0].numel(), 1, 1)
        varied[:, number] += offsets.flatten(0, 1)
        drawn = decoder(varied, torch.full((len(varied), 1), number, device=own.device))
        tours[number] = _tour_sheet(number, drawn[:, 0].float().cpu())
    return tours


def _tour_sheet(number: int, drawn: Float[Tensor, "step channel height width"]) -> Figure:
    height, width = drawn.shape[2:]
    dimensions = len(drawn) // TOUR_STEPS
    figure = Figure(figsize=(0.5 * TOUR_STEPS + 0.8, 0.5 * dimensions + 0.8), layout="constrained")
    ax = figure.subplots()
    grid = make_grid(drawn, nrow=TOUR_STEPS, padding=1, pad_value=0.5)
    ax.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set_xticks(
        [(width + 1) * (step + 0.5) for step in (0, TOUR_STEPS // 2, TOUR_STEPS - 1)],
        labels=[f"−{TOUR_REACH:.0f} σ", "pose", f"+{TOUR_REACH:.0f} σ"],
    )
    ax.set_yticks([(height + 1) * (d + 0.5) for d in range(dimensions)], labels=[str(d + 1) for d in range(dimensions)])
    ax.set(ylabel="Dimension of the pose", title=f"Class {number}")
    ax.tick_params(length=0)
    return figure


def write_pictures(
    module: ClassificationModule, data: ImageDataModule, folder: Path, classes: Sequence[int] | None = None
) -> list[Path]:
    """Write the pictures of a trained run as PNG: reconstructions, and a pose tour per class.

    Args:
        module: trained, with a decoder.
        data: set up.
        folder: to write to.
        classes: draw from the poses of these classes; see `two_digit_examples`.

    Returns:
        The files, the reconstructions first.

    Raises:
        ValueError: the run has no decoder; classes are not classes of the data.
    """
    check_classes(classes, data)
    if data.labels_per_image == 2:
        sheet = overlay_sheet(*two_digit_examples(module, data, classes))
    else:
        kinds = {}
        for name, batch in data.showcase(COLUMNS).items():
            chosen = None if classes is None else torch.tensor([list(classes)]).expand(len(batch.images), -1)
            title = name if classes is None else f"{name}, drawn from the pose of class {classes[0]}"
            kinds[title] = reconstruct(module, batch, chosen)
        sheet = reconstruction_sheet(kinds)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"reconstructions": sheet}
    if classes is None:
        figures |= {f"pose_tour_{number}": tour for number, tour in pose_tours(module, data).items()}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=90)
    return paths


def _name_row(axes: Iterable[Axes], name: str) -> None:
    first, *_ = axes = list(axes)
    for ax in axes:
        ax.set_axis_off()
    first.text(-0.15, 0.5, name, rotation=90, va="center", ha="right", transform=first.transAxes)


def _show(ax: Axes, image: Float[Tensor, "channel height width"]) -> None:
    ax.imshow(image.permute(1, 2, 0).expand(-1, -1, 3).numpy(), vmin=0, vmax=1, interpolation="nearest")


def _same(labels: Tensor, predicted: Tensor) -> bool:
    return set(labels.tolist()) == set(predicted.tolist())
