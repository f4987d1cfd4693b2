"""`capsbench evaluate`: measures trained runs on a split, if asked on the test set."""

import json
import os
from pathlib import Path
from typing import cast, get_args

import torch
from hydra.errors import InstantiationException

from capsbench.commands.analyze import for_each_run
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.other_data import ALL, build_other_data, measure_on
from capsbench.commands.predict import load_network
from capsbench.commands.settings import Evaluate
from capsbench.data import DataError
from capsbench.data.batch import SplitName
from capsbench.data.files import written_atomically
from capsbench.inference import networks
from capsbench.inference.files import DESCRIPTION
from capsbench.launch.build import find_runs, restore, trainer_of_one_device
from capsbench.launch.errors import describe, fail, origin
from capsbench.launch.noise import hide_harmless_messages
from capsbench.reports.formats import say
from capsbench.runs import ResultError, RunFolder
from capsbench.runs.environment import describe_device, git_commit, versions
from capsbench.runs.measures import in_words
from capsbench.training import evaluate

STAGES = {"train": "validate", "val": "validate", "test": "test"}
"""What data is set up for; "validate" does not read a test set that a run has nothing to do with."""


def main(arguments: Arguments) -> None:
    """Measure the runs that the settings name.

    Raises:
        ValueError: the split is none, or it is not one of any of the runs, or not of one that was named itself.
    """
    of_data = [word for word in arguments.settings if word.partition("=")[0].partition(".")[0] == "data"]
    settings = parse_settings(Evaluate, [word for word in arguments.settings if word not in of_data])
    if of_data:
        evaluate_on(settings, of_data, arguments.config_dir)
        return
    if settings.split not in STAGES:
        raise ValueError(f"split must be one of {', '.join(get_args(SplitName))}, got {settings.split}")
    hide_harmless_messages()
    data_dir = settings.data_dir or os.environ.get("CAPSBENCH_DATA")
    split = cast(SplitName, settings.split)
    for_each_run(
        settings.run, lambda folder: evaluate_run(folder, split, data_dir, arguments.config_dir), lambda runs: None
    )


def evaluate_on(settings: Evaluate, of_data: list[str], config_dir: str | None) -> None:
    """Measure runs on data that need not be theirs.

    Raises:
        ValueError: a setting is wrong, or no network could be measured, or not one that was named itself.
        CommandError: the data cannot be had; or a network below a folder cannot be read, and the others were measured.
    """
    if not any(word.startswith("data=") for word in of_data):
        raise ValueError(f"{of_data[0]} is a setting of which data? Give data=NAME, such as data=image_folder")
    if settings.split not in (*STAGES, ALL):
        raise ValueError(f"split must be one of {', '.join((*STAGES, ALL))}, got {settings.split}")
    hide_harmless_messages()
    data_dir = settings.data_dir or os.environ.get("CAPSBENCH_DATA")

    def look(folder: RunFolder) -> None:
        try:
            classifier = load_network(str(folder), config_dir)
        except ValueError as error:
            raise ResultError(str(error)) from error
        classifier.to("cuda" if torch.cuda.is_available() else "cpu")
        try:
            data = build_other_data(classifier.description.preparation, of_data, settings.split, data_dir, config_dir)
            measure_on(folder.path, classifier, data, settings.split)
        except (DataError, InstantiationException) as error:
            if isinstance(origin(error), DataError):  # of the data, which is that of all runs
                fail(describe(error))
            raise

    for_each_run(settings.run, look, lambda runs: None, _networks_in)


def _networks_in(place: Path) -> list[RunFolder]:
    """The folder itself if a trained network is in it, which may be a copy; a name; else the runs below the folder."""
    is_one = (place / DESCRIPTION).is_file() or str(place) in networks()
    return [RunFolder(place)] if is_one else find_runs(place)


def evaluate_run(
    folder: RunFolder, split: SplitName, data_dir: str | None = None, config_dir: str | None = None
) -> None:
    """Measure the final weights of a run, write evaluation-SPLIT.json into its folder.

    Args:
        folder: of the run.
        split: to measure on.
        data_dir: where data sets are now; None: where they were.
        config_dir: a user's own directory of choices, which the run may be made of.

    Raises:
        ValueError: the run has no such split, or cannot be restored.
        DataError: the data cannot be had.
    """
    run = restore(folder, data_dir, STAGES[split], config_dir)
    if not run.data.num_examples(split):
        raise ValueError(
            "split=val needs a run with a validation split, such as data.val_fraction makes; name test or train"
        )
    trainer = trainer_of_one_device(run.result.settings["trainer"]["precision"])
    metrics, confusion, by_label = evaluate(trainer, run.module, run.data, split)
    record = {
        "split": split,
        "examples": run.data.num_examples(split),
        "metrics": metrics,
        "confusion": confusion,
        "by_label": by_label,
        "class_names": list(run.result.class_names),
        "identity": run.result.identity,
        "versions": versions(),
        "device": describe_device(trainer.strategy.root_device),
        "git_commit": git_commit(),
    }
    with written_atomically(folder.evaluation(split)) as path:
        path.write_text(json.dumps(record, indent=2, allow_nan=False))
    say(f"{folder}: {in_words(metrics, split)}")
