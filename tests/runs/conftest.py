"""A result to save and to find."""

from dataclasses import replace
from pathlib import Path

import pytest

from capsbench.runs import Result


@pytest.fixture
def result() -> Result:
    result = Result(
        experiment="demo",
        data="digits",
        arch="capsnet",
        router="fm",
        seed=1,
        identity="",
        settings={"router": {"scale": 0.5}},
        choices={"loss": "margin"},
        metrics={"test/accuracy": 0.5},
        history=[{"epoch": 1, "test/accuracy": 0.5}],
        parameters=10,
        epochs=1,
        steps=2,
        wall_time_s=3.0,
        versions={"torch": "2"},
        device="cpu",
        git_commit=None,
        sessions=[{"from_step": 0, "to_step": 2, "git_commit": None, "device": "cpu"}],
        smoke=False,
        data_title="digits",
        stands_in_for=None,
        train_examples=1437,
        test_examples=360,
        full=True,
        confusion={"test": [[1, 2], [0, 3]]},
        class_names=["zero", "one"],
        class_weights=[1.0, 2.0],
        machine_load={"before": 0.5, "after": 1.0, "cores": 2},
        identity_version=2,
    )
    return replace(result, identity=result.run.digest)


@pytest.fixture
def folder(result: Result, tmp_path: Path) -> Path:
    """Where that run belongs."""
    folder = result.run.folder(tmp_path)
    folder.mkdir(parents=True)
    return folder
