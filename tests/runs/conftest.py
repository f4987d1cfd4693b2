"""A result to save and to find."""

import pytest

from capsbench.runs import Result


@pytest.fixture
def result() -> Result:
    return Result(
        experiment="demo",
        data="digits",
        arch="capsnet",
        router="fm",
        seed=1,
        identity="0123abcd",
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
        machine_load={"before": 0.5, "after": 1.0, "cores": 2},
        identity_version=2,
    )
