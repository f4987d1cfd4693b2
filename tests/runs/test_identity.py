"""What makes two runs the same."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import Identity

CONFIG: dict[str, Any] = {
    "seed": 1,
    "output_dir": "outputs",
    "data_dir": "data",
    "data": {"_target_": "capsbench.data.SmallNORB", "data_dir": "data", "seed": 1, "batch_size": 64},
    "arch": {"_target_": "capsbench.models.CapsNet", "_partial_": True, "filters": 256, "groups": 32},
    "router": {"_target_": "capsbench.routing.DynamicRouting", "_partial_": True, "iterations": 3, "detach": False},
    "optim": {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001}, "scheduler": None},
    "trainer": {"_target_": "lightning.Trainer", "max_epochs": 3, "devices": 1},
    "logger": {"csv": {}},
}
CHOICES = {"experiment": "table6", "data": "small_norb", "arch": "capsnet", "router": "dynamic", "logger": "csv"}


def folder(choices: dict[str, str] | None = None, **changes: Any) -> Path:
    config = deepcopy(CONFIG)
    for dotted, value in changes.items():
        node = config
        *path, last = dotted.split("__")
        for key in path:
            node = node[key]
        node[last] = value
    return Identity.of(config, CHOICES | (choices or {})).folder("outputs")


def test_folder_is_readable_and_repeatable() -> None:
    assert folder().parent == Path("outputs/table6/small_norb/capsnet/dynamic")
    assert folder().name.startswith("seed1-")
    assert folder() == folder()


@pytest.mark.parametrize(
    "change",
    [
        {"router__detach": True},
        {"trainer__max_epochs": 4},
        {"seed": 2, "data__seed": 2},
        {"data__seed": 2},
        {"optim__optimizer__lr": 0.01},
        {"optim__optimizer___target_": "torch.optim.AdamW"},
        {"trainer__gradient_clip_val": 1.0},
        {"devices": {"kind": "gpu", "number": 1}},
        {"devices": {"kind": "cpu", "number": 2}},
    ],
)
def test_what_changes_numbers_is_another_run(change: dict[str, Any]) -> None:
    assert folder(**change) != folder()


@pytest.mark.parametrize(
    "change",
    [
        {"output_dir": "x"},
        {"data__data_dir": "y"},
        {"trainer__devices": "auto"},  # what it comes to is in `devices`
        {"devices": {"kind": "cpu", "number": 1}},
        {"logger": {"wandb": {}}},
        {"router___target_": "elsewhere.DynamicRouting"},  # a class that was moved
        {"router__implementation": "auto"},  # an option that came later, with its old behaviour
        {"data__augmentation": {"_target_": "capsbench.data.Augmentation", "crop_padding": 0, "flip": False}},
        {"optim__optimizer__weight_decay": 0},  # 0 and 0.0 are one number
        {"trainer__gradient_clip_val": None},
    ],
)
def test_what_changes_no_number_is_the_same_run(change: dict[str, Any]) -> None:
    assert folder(**change) == folder()


@pytest.mark.parametrize(
    ("choice", "iterations", "name"),
    [
        ("dynamic", 1, "dynamic1"),
        ("dynamic1", 1, "dynamic1"),
        ("dynamic1", 3, "dynamic"),
        ("dynamic2", 1, "dynamic1"),
        ("dynamic1", 5, "dynamic"),
        ("my_own", 1, "my_own"),
    ],
)
def test_a_run_has_one_folder_however_it_was_asked_for(choice: str, iterations: int, name: str) -> None:
    found = folder({"router": choice}, router__iterations=iterations)
    assert found.parent.name == name
    assert found.name == folder({"router": "dynamic"}, router__iterations=iterations).name


def test_a_lighter_network_is_the_light_one() -> None:
    assert folder(arch__filters=64, arch__groups=8) == folder(
        {"arch": "capsnet_light"}, arch__filters=64, arch__groups=8
    )


def test_a_run_of_an_older_version_is_another_run() -> None:
    now = Identity.of(CONFIG, CHOICES)
    assert now.version == 2
    assert replace(now, version=1).folder("outputs") != now.folder("outputs")


@pytest.mark.parametrize("seed", [-1, 1.5, "one", True, 2**32])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be an integer from 0 to 4294967295, got"):
        folder(seed=seed)
