"""`capsbench evaluate`: measures trained runs on a split, if asked on the test set."""

import json
import os
from typing import cast, get_args

from capsbench.commands.analyze import for_each_run
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Evaluate
from capsbench.data.batch import SplitName
from capsbench.data.files import written_atomically
from capsbench.launch.build import restore, trainer_of_one_device
from capsbench.launch.noise import hide_harmless_messages
from capsbench.reports.formats import say
from capsbench.runs import RunFolder
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
    settings = parse_settings(Evaluate, arguments.settings)
    if settings.split not in STAGES:
        raise ValueError(f"split must be one of {', '.join(get_args(SplitName))}, got {settings.split}")
    hide_harmless_messages()
    data_dir = settings.data_dir or os.environ.get("CAPSBENCH_DATA")
    split = cast(SplitName, settings.split)
    for_each_run(
        settings.run, lambda folder: evaluate_run(folder, split, data_dir, arguments.config_dir), lambda runs: None
    )


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
