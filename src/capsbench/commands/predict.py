"""`capsbench predict`: says what pictures show, by a trained network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd
import torch
from hydra.utils import get_object
from rich.console import Console
from torch import Tensor

from capsbench.analysis.sheets import COLUMNS, Caption, Row, write_rows
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Predict
from capsbench.data import DataError
from capsbench.data.files import written_atomically
from capsbench.data.pictures import SUFFIXES, Fit, files_below, is_named_as_picture, read_picture
from capsbench.data.transforms import stretch
from capsbench.inference import Classifier, load
from capsbench.launch.config import own_choices
from capsbench.launch.errors import fail
from capsbench.launch.saved import targets_in
from capsbench.reports.formats import NOTHING, say, to_rich

AT_ONCE = 256
"""Pictures in memory, unless a sheet is wanted."""
MOST_ROWS = 50
"""Of the table on the terminal."""
MOST_ON_SHEET = 200


def main(arguments: Arguments) -> None:
    """Say what the pictures show that the settings name.

    Raises:
        ValueError: a setting is missing or wrong, or the folder holds no trained network.
        DataError: a picture that was named cannot be read, or there is none.
        CommandError: pictures of a folder cannot be read; the others are told.
    """
    settings = parse_settings(Predict, arguments.settings)
    for name in ("run", "images"):
        if getattr(settings, name) is None:
            raise ValueError(f"{name} must be given: capsbench predict run=RUN images=FILE")
    if settings.fit is not None and settings.fit not in get_args(Fit):
        raise ValueError(f"fit must be one of {', '.join(get_args(Fit))}, got {settings.fit}")
    classifier = load_network(str(settings.run), arguments.config_dir)
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    named = [Path(str(path)) for path in (settings.images if isinstance(settings.images, list) else [settings.images])]
    table, seen, unread = predict(classifier, find_pictures(named), named, settings)
    if table.empty:
        raise DataError(f"none of {len(unread)} pictures could be read; the first: {unread[0]}")
    said = "probability" if classifier.description.scores != "activations" else "activation"
    if classifier.description.labels_per_image is None:
        threshold = classifier.description.threshold
        say(f"a picture may show any number of classes: those with an activation above {threshold:g}")
    shown = table.iloc[:MOST_ROWS, :4].rename(columns={"score": said, "next": "next best"})
    Console(markup=False).print(to_rich(shown.map(str).replace("", NOTHING)))
    if len(table) > len(shown):
        say(f"and {len(table) - len(shown)} more" + ("" if settings.csv else "; csv=FILE writes all"))
    if settings.csv is not None:
        with written_atomically(Path(settings.csv)) as path:
            table.drop(columns="next").to_csv(path, index=False)
        say(settings.csv)
    if settings.sheet is not None:
        write_sheet(seen, table, Path(settings.sheet))
        say(settings.sheet)
    if unread:
        fail(f"{len(unread)} of {len(unread) + len(table)} pictures could not be read; the first: {unread[0]}")


def find_pictures(named: Sequence[Path]) -> list[Path]:
    """List the pictures that are named, and those in named folders and their subfolders; hidden files are passed over.

    Raises:
        DataError: a folder holds none.
    """
    found: list[Path] = []
    for path in named:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [each for each in files_below(path) if is_named_as_picture(each)]
        if not inside:
            raise DataError(f"{path} holds no pictures, files that end with {', '.join(SUFFIXES)}")
        found += inside
    return found


def load_network(run: str, config_dir: str | None) -> Classifier:
    """Load the network in a run's folder, which may be made of a user's own choices.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        return load(run, own=own_classes(config_dir))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error


def place_of(run: str) -> Path:
    """Where files about a network go: its own folder, or the current one if the network comes with the package."""
    return Path(run) if Path(run).is_dir() else Path()


def own_classes(config_dir: str | None) -> dict[str, Any]:
    """Import the networks and routers that a user's own choices name, by these names."""
    if config_dir is None:
        return {}
    found = targets_in(own_choices(config_dir))
    return {target: get_object(target) for part, target in found if part in ("arch", "router")}


def predict(
    classifier: Classifier, paths: Sequence[Path], named: Sequence[Path], settings: Predict
) -> tuple[pd.DataFrame, list[Tensor], list[str]]:
    """Say what pictures show.

    Returns:
        A table of a row for each, what the network saw of those on a sheet, and what is wrong with the others.
    """
    rows: list[dict[str, Any]] = []
    seen: list[Tensor] = []
    unread: list[str] = []
    preparation = classifier.description.preparation
    channels, height, width = preparation.shape
    any_number = classifier.description.labels_per_image is None
    fit = cast(Fit, settings.fit or preparation.fit)
    resized = grey = 0
    for start in range(0, len(paths), AT_ONCE):
        read = []
        for path in paths[start : start + AT_ONCE]:
            try:
                read.append((path, read_picture(path, preparation.background)))
            except DataError as error:
                if path in named:
                    raise
                unread.append(str(error))
        if not read:
            continue
        resized += sum(image.size != (width, height) for _, image in read)
        grey += sum(image.mode == "RGB" for _, image in read) if channels == 1 else 0
        images = classifier.prepare([image for _, image in read], fit)
        answer = classifier.answer(images)
        if settings.sheet is not None and len(seen) < MOST_ON_SHEET:
            seen += stretch(images.float().cpu()).unbind()
        for (path, _), names, scores in zip(read, answer.names, answer.scores.tolist(), strict=True):
            by_name = dict(zip(classifier.class_names, scores, strict=True))
            by_score = sorted(zip(scores, classifier.class_names, strict=True), reverse=True)
            following = [f"{name} {score:.3f}" for score, name in by_score if name not in names]
            told = names if any_number else names[:1]
            rows.append(
                {
                    "picture": str(path),
                    "predicted": ", ".join(names),
                    "score": ", ".join(f"{by_name[name]:.3f}" for name in told),
                    "next": following[0] if following else "",
                    **{f"score of {name}": score for name, score in by_name.items()},
                }
            )
    if resized:
        say(f"{resized} of {len(rows)} pictures had another size and were made {width}×{height}: fit={fit}")
    if grey:
        say(f"{grey} of {len(rows)} pictures were in colour; the network sees grey")
    return pd.DataFrame(rows), seen[:MOST_ON_SHEET], unread


def write_sheet(images: Sequence[Tensor], table: pd.DataFrame, path: Path) -> None:
    """Write what the network saw of pictures, in rows of ten, with what it says above each."""
    captions = [Caption(f"{str(row.predicted) or NOTHING}\n{row.score}") for row in table.itertuples()]
    starts = range(0, len(images), COLUMNS)
    rows = [Row("", images[start : start + COLUMNS], captions[start : start + COLUMNS]) for start in starts]
    write_rows(rows, path)
