"""What makes two runs the same."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import Identity

CONFIG: dict[str, Any] = {
    "seed": 1,
    "output_dir": "outputs",
    "data_dir": "data",
    "data": {"_target_": "x", "data_dir": "data", "batch_size": 128},
    "router": {"iterations": 3},
    "trainer": {"max_epochs": 3, "devices": 1},
    "logger": {"csv": {}},
}
CHOICES = {"experiment": "table6", "data": "small_norb", "arch": "capsnet", "router": "dynamic", "logger": "csv"}


def folder(**changes: Any) -> Path:
    config = deepcopy(CONFIG)
    for dotted, value in changes.items():
        node = config
        *path, last = dotted.split("__")
        for key in path:
            node = node[key]
        node[last] = value
    return Identity.of(config, CHOICES).folder("outputs")


def test_folder_is_readable_and_repeatable() -> None:
    assert folder().parent == Path("outputs/table6/small_norb/capsnet/dynamic")
    assert folder().name.startswith("seed1-")
    assert folder() == folder()


@pytest.mark.parametrize("change", [{"router__iterations": 1}, {"trainer__max_epochs": 4}, {"seed": 2}])
def test_what_changes_numbers_is_another_run(change: dict[str, Any]) -> None:
    assert folder(**change) != folder()


@pytest.mark.parametrize(
    "change", [{"output_dir": "x"}, {"data__data_dir": "y"}, {"trainer__devices": 2}, {"logger": {"wandb": {}}}]
)
def test_what_changes_no_number_is_the_same_run(change: dict[str, Any]) -> None:
    assert folder(**change) == folder()


@pytest.mark.parametrize("seed", [-1, 1.5, "one", True, 2**32])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be an integer from 0 to 4294967295, got"):
        folder(seed=seed)
