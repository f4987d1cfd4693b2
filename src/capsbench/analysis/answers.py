"""What a trained network says of a split: its most confident errors as a sheet, and its capsules as features."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from capsbench.analysis.sheets import COLUMNS, Caption, Row, write_rows
from capsbench.data import BatchKey, ImageDataModule
from capsbench.data.batch import SplitName
from capsbench.data.files import written_atomically
from capsbench.data.transforms import stretch
from capsbench.inference import Classifier

MOST_ROWS = 20
"""Classes on a sheet: those with the most errors."""
LONGEST = 15
"""Characters of a name above an image."""


class Answers(NamedTuple):
    """What a network says of images that show one class each.

    Attributes:
        labels, predicted: numbers of classes.
        scores: of all classes, see `Description.scores`.
        poses, activations: of the class capsules.
    """

    labels: Int64[Tensor, "image"]
    predicted: Int64[Tensor, "image"]
    scores: Float[Tensor, "image class"]
    poses: Float[Tensor, "image class dim"]
    activations: Float[Tensor, "image class"]


@torch.inference_mode()
def answers(classifier: Classifier, data: ImageDataModule, split: SplitName = "test") -> Answers:
    """Ask a network about a split.

    Args:
        classifier: trained on this data.
        data: set up.
        split: of it.

    Raises:
        ValueError: images show several classes.
    """
    if data.labels_per_image != 1:
        raise ValueError(f"images of {data.title} show several classes; this analysis is of images that show one")
    weights = next(classifier.network.parameters())
    parts = []
    for batch in data.evaluation_loader(split):
        poses, activations = classifier.network(batch.images.to(weights))
        found = (batch.labels, activations.argmax(dim=1), classifier.description.score(activations), poses, activations)
        parts.append([tensor.cpu() for tensor in found])
    return Answers(*map(torch.cat, zip(*parts, strict=True)))


def write_errors(
    found: Answers, data: ImageDataModule, path: Path, classes: Sequence[int] | None = None, split: SplitName = "test"
) -> pd.DataFrame:
    """Draw the errors that a network is most sure of: a row for each class, the most errors first.

    Args:
        found: see `answers`.
        data: set up.
        path: of the PNG; it is not written where there are no errors.
        classes: whose images to draw; None: all.
        split: of which the answers are.

    Returns:
        All errors of these classes, the surest first: number of the image, its class, what it was taken for, the score.
    """
    wrong = found.labels != found.predicted
    if classes is not None:
        wrong &= torch.isin(found.labels, torch.tensor(classes))
    numbers = wrong.nonzero().flatten()
    sure = found.scores[numbers, found.predicted[numbers]]
    numbers = numbers[sure.argsort(descending=True, stable=True)]
    names = np.array(data.names)
    table = pd.DataFrame(
        {
            "image": numbers.numpy(),
            "class": names[found.labels[numbers]],
            "taken for": names[found.predicted[numbers]],
            "score": found.scores[numbers, found.predicted[numbers]].numpy(),
        }
    )
    rows = []
    for name in table["class"].value_counts().index[:MOST_ROWS]:
        shown = table[table["class"] == name][:COLUMNS]
        images = data.batch(split, BatchKey(0, torch.tensor(shown["image"].to_numpy(), device=data.device))).images
        captions = [
            Caption(f"→ {_short(taken)}\n{score:.3f}", wrong=True)
            for taken, score in zip(shown["taken for"], shown["score"], strict=True)
        ]
        rows.append(Row(str(name), stretch(images.float().cpu()), captions))
    if rows:
        write_rows(rows, path, f"{data.title}: what the network is most sure of and wrong about, by class")
    return table


def features(found: Answers, names: Sequence[str]) -> pd.DataFrame:
    """Lay answers out as a table: "label", "predicted", "activation NAME" and "pose NAME DIM" for each class.

    Args:
        found: see `answers`.
        names: of the classes.
    """
    columns = [f"activation {name}" for name in names]
    columns += [f"pose {name} {dim}" for name in names for dim in range(found.poses.shape[2])]
    numbers = torch.cat([found.activations, found.poses.flatten(1)], dim=1).float().numpy()
    table = pd.DataFrame(numbers, columns=columns)
    table.insert(0, "label", np.array(names)[found.labels])
    table.insert(1, "predicted", np.array(names)[found.predicted])
    return table


def write_features(table: pd.DataFrame, path: Path) -> None:
    """Write features as .parquet, or as .npz: "features" (image, column) with their "columns", "label", "predicted".

    Raises:
        ImportError: it is .parquet, and pyarrow is not installed.
        WriteError: the disk is full.
    """
    with written_atomically(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, engine="pyarrow", index=False)
            return
        numbers = table.drop(columns=["label", "predicted"])
        arrays = {name: table[name].to_numpy(str) for name in ("label", "predicted")}
        with temporary.open("wb") as stream:
            np.savez_compressed(
                stream, features=numbers.to_numpy(np.float32), columns=np.array(numbers.columns, str), **arrays
            )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
