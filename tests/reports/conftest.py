"""Results made up for reports, whose numbers are therefore known."""

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.paper import target_of
from capsbench.runs import Result
from capsbench.runs.identity import VERSION

AddRun = Callable[..., Path]


@pytest.fixture
def add_run() -> AddRun:
    """Write a run of no paper's experiment: add_run(root, router, seed, accuracy, iterations=3, loss="margin", …)."""
    return write_run


@pytest.fixture
def add_paper_run() -> AddRun:
    """Write a run as the paper made it, but for the changes: add_paper_run(outputs, "table3", "fm", 1, 0.93, …)."""
    return write_paper_run


@pytest.fixture
def crash() -> Callable[..., None]:
    """Turn a finished run into one that failed: crash(folder, cause)."""
    return make_crash


def write_run(
    root: Path,
    router: str,
    seed: int,
    accuracy: float,
    *,
    iterations: int = 3,
    loss: str = "margin",
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    epochs = changes.get("epochs", 1)
    smoke = changes.get("smoke", False)
    result = Result(
        experiment=root.name,
        data="digits",
        arch="capsnet",
        router=router,
        seed=seed,
        identity="",
        settings=settings
        or {"seed": seed, "data": {"seed": seed}, "router": {"iterations": iterations}, "loss": {f"{loss}_m": 1}},
        choices={"loss": loss, "router": router},
        metrics={"test/accuracy": accuracy, "train/images_per_second": 1000.0, "inference/ms_per_batch": 5.0},
        history=[
            {
                "epoch": epoch,
                "train/accuracy": 0.5 + (accuracy - 0.48) * (1 - math.exp(-4 * epoch / epochs)),
                "test/accuracy": accuracy * (1 - 0.3 * math.exp(-4 * epoch / epochs)) if epoch < epochs else accuracy,
            }
            for epoch in range(1, epochs + 1)
        ],
        parameters=12345,
        epochs=epochs,
        steps=10 * epochs,
        wall_time_s=90.0,
        versions={"torch": "2"},
        device="cpu",
        git_commit=None,
        smoke=smoke,
        data_title="digits",
        stands_in_for=None,
        train_examples=1437,
        test_examples=360,
        full=not smoke,
        class_names=[str(digit) for digit in range(10)],
        identity_version=VERSION,
    )
    result = dataclasses.replace(result, **changes)
    result = dataclasses.replace(result, identity=result.run.digest)
    folder = result.run.folder(root.parent)
    folder.mkdir(parents=True)
    result.save(folder)
    return folder


def write_paper_run(
    outputs: Path,
    experiment: str,
    router: str,
    seed: int,
    accuracy: float,
    *,
    data: str | None = None,
    named: str | None = None,
    **changes: Any,
) -> Path:
    """Write a run with the settings of an experiment, asked for by the name of another if one is named."""
    target = target_of(experiment)
    assert target is not None
    title = data or next(iter(target.data))
    paper = protocol(experiment, target.data[title], router if router in target.routers else target.routers[0])
    settings: Any = copy.deepcopy(dict(paper.settings)) | {"seed": seed}
    settings["data"]["seed"] = seed
    choices = dict(paper.choices) | {"router": router}
    for key, value in changes.pop("settings", {}).items():
        *parts, last = key.split(".")
        node = settings
        for part in parts:
            node = node.setdefault(part, {})
        if parts:
            node[last] = value
        else:
            choices[key] = value
    trainer = settings["trainer"]
    told: dict[str, Any] = {
        "data": title.lower(),
        "data_title": title,
        "arch": paper.arch,
        "choices": choices,
        "epochs": trainer["max_epochs"] if trainer["max_epochs"] > 0 else 5,
        "steps": trainer["max_steps"] if trainer["max_steps"] > 0 else 1000,
        "train_examples": 60_000,
    }
    return write_run(outputs / (named or experiment), router, seed, accuracy, settings=settings, **told | changes)


def make_crash(folder: Path, cause: str = "loss is NaN") -> None:
    """Turn a finished run into one that failed."""
    result = Result.load(folder)
    told = {name: getattr(result, name) for name in ("experiment", "data", "arch", "router", "seed")}
    identity = told | {"settings": result.settings, "choices": result.choices, "version": result.identity_version}
    (folder / "identity.json").write_text(json.dumps(identity))
    (folder / "error.txt").write_text(cause)
    (folder / "result.json").unlink()
