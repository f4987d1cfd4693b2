"""Reconstructions of images from the poses of chosen classes, as in the paper's tables 4 and 5."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

from capsbench.analysis.sheets import COLUMNS, INK, Caption, Row, show_rows
from capsbench.data import Batch, BatchKey, ImageDataModule
from capsbench.training import ClassificationModule
from capsbench.training.module import most_active

SEARCHED = 2048
"""How many test examples are searched for right and wrong predictions."""
COLORS = torch.tensor([[0.1, 1.0, 0.1], [1.0, 0.0, 0.9]])
"""Red, green, blue of the first and the second reconstruction; their sum is white."""


class Reconstruction(NamedTuple):
    """A batch and its reconstructions, decoded from the poses of the chosen classes."""

    batch: Batch
    labels: Int64[Tensor, "batch several"]
    predicted: Int64[Tensor, "batch several"]
    chosen: Int64[Tensor, "batch several"]
    decoded: Float[Tensor, "batch several channel height width"]


@torch.no_grad()
def reconstruct(
    module: ClassificationModule, batch: Batch, chosen: Int64[Tensor, "batch several"] | None = None
) -> Reconstruction:
    """Reconstruct a batch from the poses of the predicted classes, or of others.

    Args:
        module: with a decoder.
        batch: to reconstruct.
        chosen: the classes whose poses are decoded; None: the predicted ones.

    Raises:
        ValueError: the run has no decoder.
    """
    decoder = decoder_of(module)
    poses, activations = module.predict(batch.images)
    labels = batch.labels.reshape(len(activations), -1).to(poses.device)
    predicted = most_active(activations, labels.shape[1])
    chosen = predicted if chosen is None else chosen.to(poses.device)
    decoded = decoder(poses, chosen).float()
    return Reconstruction(batch, *(tensor.cpu() for tensor in (labels, predicted, chosen, decoded)))


def decoder_of(module: ClassificationModule) -> nn.Module:
    """Give the decoder of a module.

    Raises:
        ValueError: it has none.
    """
    if module.decoder is None:
        raise ValueError("the run has no decoder; train one with decoder=deconv or decoder=dense")
    return module.decoder


def reconstruction_sheet(kinds: Mapping[str, Reconstruction], names: Sequence[str]) -> Figure:
    """Show inputs and their reconstructions below (the paper's table 4), two rows for each kind of examples.

    Args:
        kinds: the examples of each kind, by its name.
        names: of the classes.
    """
    figure = Figure(figsize=(COLUMNS, 2.9 * len(kinds)), layout="constrained")
    for part, (name, shown) in zip(figure.subfigures(len(kinds), 1, squeeze=False)[:, 0], kinds.items(), strict=True):
        part.suptitle(name, color=INK)
        captions = [
            Caption(f"L:{names[label]}\nP:{names[predicted]}", wrong=not label.equal(predicted))
            for label, predicted in zip(shown.labels, shown.predicted, strict=True)
        ]
        show_rows(part, [Row("input", shown.batch.targets[:, 0]), Row("output", shown.decoded[:, 0], captions)])
    return figure


def overlay_sheet(shown: Reconstruction, forced: Sequence[bool], names: Sequence[str]) -> Figure:
    """Show merged images and both reconstructions below, one in green and one in magenta (the paper's table 5).

    Args:
        shown: examples with two labels.
        forced: which of them were reconstructed from other classes than the predicted ones; they get a star.
        names: of the classes.
    """

    def classes(which: Tensor) -> str:
        return f"({', '.join(names[number] for number in which.tolist())})"

    overlaid = torch.einsum("nschw,sr->nrhw", shown.decoded, COLORS).clamp_max(1.0)
    captions = [
        Caption(
            f"{'*' if star else ''}R:{classes(chosen)}\nL:{classes(label)}\nP:{classes(predicted)}",
            wrong=not _same(label, predicted),
        )
        for star, chosen, label, predicted in zip(forced, shown.chosen, shown.labels, shown.predicted, strict=True)
    ]
    columns = min(COLUMNS, len(forced))
    rows = []
    for start in range(0, len(forced), columns):
        part = slice(start, start + columns)
        rows += [Row("", shown.batch.images[part]), Row("", overlaid[part], captions[part])]
    figure = Figure(figsize=(1.35 * columns, 1.8 * len(rows)), layout="constrained")
    show_rows(figure, rows, columns)
    return figure


def two_digit_examples(
    module: ClassificationModule, data: ImageDataModule, classes: Sequence[int] | None = None
) -> tuple[Reconstruction, list[bool]]:
    """Choose and reconstruct the examples of table 5: right predictions, wrong ones, and some with a forced class.

    Right and wrong predictions are reconstructed from the predicted classes. The last examples are right predictions,
    reconstructed from the first label and a class that is neither label nor prediction; or from `classes`, one of which
    is a label.

    Args:
        module: trained on two labels per image, with a decoder.
        data: set up.
        classes: two classes to reconstruct the last examples from.

    Returns:
        The reconstructions, and for each whether its classes were forced.

    Raises:
        ValueError: classes are not two different classes of the data; the run has no decoder.
    """
    check_classes(classes, data)
    searched = searched_batch(data)
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


def searched_batch(data: ImageDataModule) -> Batch:
    """Make the batch of the first `SEARCHED` examples of the watched split."""
    number = min(SEARCHED, data.num_examples(data.watched_split))
    return data.batch(data.watched_split, BatchKey(0, torch.arange(number, device=data.device)))


def check_classes(classes: Sequence[int] | None, data: ImageDataModule) -> None:
    """Check that classes to reconstruct from are different ones, as many as an image of the data has labels.

    Raises:
        ValueError: they are not.
    """
    if classes is None:
        return
    wanted = data.labels_per_image or 1
    if len(classes) != wanted or len(set(classes)) != wanted or not all(0 <= c < data.num_classes for c in classes):
        what = f"{wanted} different classes" if wanted > 1 else "one class"
        raise ValueError(f"classes must be {what} from 0 to {data.num_classes - 1}, got {list(classes)}")


def _same(labels: Tensor, predicted: Tensor) -> bool:
    return set(labels.tolist()) == set(predicted.tolist())
