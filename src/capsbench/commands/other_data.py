"""`capsbench evaluate data=…`: measures a trained network on any data whose classes it knows."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from capsbench.commands.arguments import quoted
from capsbench.commands.predict import place_of
from capsbench.data import Arrays, Batch, ImageDataModule, ImageFolder
from capsbench.data.batch import SplitName
from capsbench.data.files import written_atomically
from capsbench.data.preparation import Preparation
from capsbench.data.reading import read_json
from capsbench.inference import Classifier
from capsbench.launch.build import build_data
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.errors import listed
from capsbench.reports.evaluation import class_accuracies, write_evaluation
from capsbench.reports.formats import say, to_rich
from capsbench.reports.statistics import Share
from capsbench.runs.environment import git_commit, versions
from capsbench.runs.measures import BESIDE, EXACT_MATCH, MAIN
from capsbench.training.losses import multi_hot
from capsbench.training.metrics import BY_ORDER, measures

ALL = "all"
"""As a split: training, validation and test images."""
NAMES_TOLD = 12
"""Classes in a line."""
SHAPING = ("standardized", "resize", "crop", "standardize_before_crop")
"""Settings of data that prepare images; they are those of the network unless they are given."""
OWN_FILES = ("capsbench.data.Arrays", "capsbench.data.ImageFolder")
"""Data whose division depends on what is measured."""


@dataclass(frozen=True)
class Measured:
    """What a network says of images whose classes are known.

    Attributes:
        accuracy: the share of images of which it names all classes and no other; of a network that was trained on any
            number of classes per image, of those that both know.
        confusion: how many images of each class (row) it took for each (column), by the numbers of the network's
            classes; None where an image has several.
        by_label: of a network that was trained on any number: f1 and map, means over the classes that both know.
    """

    accuracy: Share
    confusion: list[list[int]] | None
    by_label: dict[str, float]


def build_other_data(
    preparation: Preparation, words: list[str], split: str, data_dir: str | None, config_dir: str | None
) -> ImageDataModule:
    """Make the data of settings, its images prepared for a network.

    Args:
        preparation: of the network's images.
        words: settings of data, as of `capsbench train`; they take precedence.
        split: that is measured, or `ALL`.
        data_dir: where data sets are; None: in data/.
        config_dir: a user's own directory of choices.

    Raises:
        ValueError: a setting cannot be used, or the images have another shape than the network's.
        DataError: the data cannot be had.
    """
    given = {word.partition("=")[0] for word in words}
    places = [] if data_dir is None else [f"data_dir={data_dir}"]
    with open_configuration(config_dir) as loader:
        composer, words = Composer(loader), quoted([*words, *places])
        for override in composer.parser.parse_overrides(words):
            if override.is_sweep_override():
                name, _, value = str(override.input_line).partition("=")
                raise ValueError(
                    f"{name}={value} are several values; give one. A value with a comma in it is quoted twice: "
                    f"{name}=\"'{value}'\""
                )
        config = composer.compose(words).config
    _prepare_as(config.data, preparation, given)
    if config.data["_target_"] in OWN_FILES:
        OmegaConf.update(config.data, "measured", split, force_add=True)
    data = build_data(config)
    if "fit" in config.data and "data.resize" not in given:
        data.resize = preparation.resize  # after the pictures have the size of a stored image, as in prediction
    if data.standardized != preparation.standardized and "data.standardized" not in given:
        ours, theirs = ("" if each else "not " for each in (preparation.standardized, data.standardized))
        raise ValueError(f"images of {data.title} are {theirs}standardised, and those of the network are {ours}so")
    whole, found, wanted = _uncut(preparation), _uncut(data.preparation), preparation.seen
    if found == whole or given & {"data.resize", "data.crop"}:
        found = data.input_shape
    else:
        wanted = whole
    if found != wanted:
        theirs, ours = (
            f"{width}×{height} pixels in {'grey' if channels == 1 else f'{channels} channels'}"
            for channels, height, width in (found, wanted)
        )
        middle = "" if wanted == preparation.seen else "the middle of "
        is_square = whole[1] == whole[2] and found[1:] != wanted[1:]
        mend = f"; data.resize={whole[1]} changes their size" if is_square and "resize" in config.data else ""
        raise ValueError(f"images of {data.title} have {theirs}, the network sees {middle}{ours}{mend}")
    return data


def _uncut(preparation: Preparation) -> tuple[int, int, int]:
    """(channels, height, width) before anything is cropped."""
    return replace(preparation, crop=None).seen


def _prepare_as(data: DictConfig, preparation: Preparation, given: set[str]) -> None:
    wanted: dict[str, Any] = {name: getattr(preparation, name) for name in SHAPING}
    if "fit" in data:  # pictures of any size
        _, height, width = preparation.shape
        wanted["resize"] = height if height == width else preparation.resize
        wanted["background"] = preparation.background
        if wanted["resize"] is not None:
            wanted["fit"] = preparation.fit
    for name, value in wanted.items():
        if name in data and f"data.{name}" not in given:
            OmegaConf.update(data, name, value)


def numbers_of(data: ImageDataModule, names: tuple[str, ...]) -> Tensor:
    """Find for each class of data the number of the network's class: by name, or by number where data has no names.

    Returns:
        The numbers; -1 of a class that the network does not know and no image shows.

    Raises:
        ValueError: the network does not know a class that an image shows.
    """
    theirs = list(data.names)
    if any(name not in names for name in theirs) and data.class_names is None and len(theirs) == len(names):
        say(f"{data.title} numbers its classes: 0 is taken for {names[0]}, {len(names) - 1} for {names[-1]}")
        return torch.arange(len(names))
    shown = {name for split in data.splits.values() for name in _shown(split.labels, theirs)}
    unknown = [name for name in theirs if name not in names and (name in shown or not set(theirs) & set(names))]
    if unknown:
        raise ValueError(
            f"{data.title} has {len(unknown)} classes that the network does not know: {listed(unknown, NAMES_TOLD)}; "
            f"it knows {listed(names, NAMES_TOLD)}"
        )
    return torch.tensor([names.index(name) if name in names else -1 for name in theirs])


def _shown(labels: Tensor, names: list[str]) -> list[str]:
    counts = labels.any(dim=0) if labels.dtype == torch.bool else labels.bincount()
    return [names[number] for number in counts.nonzero().flatten().tolist()]


def measure(classifier: Classifier, batches: Iterable[Batch], numbers: Tensor) -> Measured:
    """Measure a network.

    Args:
        classifier: the network.
        batches: of prepared images.
        numbers: for each class of the data, that of the network; -1: it has none.
    """
    shown = classifier.description.labels_per_image
    matrix = MulticlassConfusionMatrix(len(classifier.class_names))
    is_known = numbers >= 0
    known = numbers[is_known]
    made = {} if shown else measures(len(known), None)
    by_label = {name: made[name] for name in BESIDE if name in made}
    correct = examples = 0
    weights = next(classifier.network.parameters())
    for batch in batches:
        answer = classifier.answer(batch.images.to(weights))
        if shown is None:
            predicted = answer.labels[:, known].long()
            labels = multi_hot(batch.labels.cpu(), len(numbers))[:, is_known]
            for name, metric in by_label.items():
                metric.update(answer.scores[:, known] if name == BY_ORDER else predicted, labels)
        else:
            predicted = answer.labels.sort(dim=1).values
            labels = numbers[batch.labels.reshape(len(batch.labels), -1).cpu()].sort(dim=1).values
        correct += int((predicted == labels).all(dim=1).sum())
        examples += len(labels)
        if shown == 1:
            matrix.update(predicted[:, 0], labels[:, 0])
    return Measured(
        Share(correct, examples),
        matrix.compute().tolist() if shown == 1 else None,
        {name: float(metric.compute()) for name, metric in by_label.items()},
    )


def measure_on(run: Path, classifier: Classifier, data: ImageDataModule, split: str) -> None:
    """Measure a network on a split of data; print, and write evaluation-DATA-SPLIT.json and .html into its folder.

    Raises:
        ValueError: data has no such split, or its images another number of classes each; or the file is of other data.
        DataError: the data cannot be had.
    """
    data.augments = False
    data.prepare_data()
    data.setup()
    numbers = numbers_of(data, classifier.class_names)
    wanted = classifier.description.labels_per_image
    if wanted is not None and data.labels_per_image != wanted:
        raise ValueError(
            f"an image of {data.title} shows {data.labels_per_image or 'any number of'} classes, one of the network's "
            f"{wanted}; with data=… both must be the same number"
        )
    labels = None if wanted else [classifier.class_names[number] for number in numbers.tolist() if number >= 0]
    title = re.sub(r"\W+", "-", data.title.lower()).strip("-") or "data"
    path = place_of(str(run)) / f"evaluation-{title}-{split}.json"
    place = str(data.path.resolve()) if isinstance(data, Arrays | ImageFolder) else None
    before = _record_in(path)
    if before.get("path", place) != place:
        other = before["path"] or f"the set {before.get('data')}"
        raise ValueError(f"{path} is of {other}; give this data another name, data.title=NAME, or remove that file")
    found = measure(classifier, _batches(data, split), numbers)
    measured = "accuracy" if wanted else EXACT_MATCH
    record = {
        "data": data.title,
        "path": place,
        "split": split,
        "examples": found.accuracy.of,
        measured: found.accuracy.value,
        "interval": [found.accuracy.low, found.accuracy.high],
        **found.by_label,
        "labels": labels,
        "confusion": found.confusion,
        "class_names": list(classifier.class_names),
        "network": dict(classifier.description.run),
        "preparation": asdict(data.preparation),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    beside = "".join(f", {BESIDE[name]} {100 * value:.2f} %" for name, value in found.by_label.items())
    said = f"{data.title}, {split}: {MAIN[measured]} {found.accuracy}{beside}"
    if labels is not None:
        said += f"; labels measured: {listed(labels, NAMES_TOLD)}"
    if found.confusion is not None:
        counts = pd.DataFrame(found.confusion, classifier.class_names, classifier.class_names)
        Console(markup=False).print(to_rich(class_accuracies(counts)))
        page = path.with_suffix(".html")
        write_evaluation(page, f"{run} on {data.title}", said, counts)
    for other, loader in (data.companions() if split == "test" else {}).items():
        say(f"{data.title}, {other}: {MAIN[measured]} {measure(classifier, loader, numbers).accuracy}")
    say(f"{run} on {said}")
    say(f"{path}" + (f", {page}" if found.confusion is not None else ""))


def _record_in(path: Path) -> dict[str, Any]:
    """What was measured before; empty where nothing was, or nothing that can be read."""
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def _batches(data: ImageDataModule, split: str) -> Iterator[Batch]:
    names: tuple[SplitName, ...] = ("train", "val", "test")
    wanted = [name for name in names if data.num_examples(name) and split in (name, ALL)]
    if not wanted:
        raise ValueError(
            f"{data.title} has no split {split}; name {', '.join(n for n in names if data.num_examples(n))}"
        )
    for name in wanted:
        yield from data.evaluation_loader(name)
