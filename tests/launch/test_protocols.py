"""The paper's runs, as conf/experiment composes them.

Where a change of settings is meant, write the file anew: python tests/launch/test_protocols.py
"""

import json
from pathlib import Path
from typing import Any

import pytest

from capsbench.launch.config import open_configuration
from capsbench.launch.protocols import protocol
from capsbench.launch.sweep import plan
from capsbench.reports.paper import targets
from capsbench.reports.protocol import flat

GOLDEN = Path(__file__).with_name("protocols.json")
EVERY = "every run"


def composed(experiment: str) -> dict[str, dict[str, Any]]:
    """Choices and settings of an experiment's runs: those that all share, then those of each data set and router."""
    target = targets()[experiment]
    runs = {}
    for data in target.data.values():
        for router in target.routers:
            paper = protocol(experiment, data, router)
            choices = {group: name for group, name in paper.choices.items() if group != "logger"}
            runs[f"{data}, {router}"] = choices | flat(paper.settings)
    first = next(iter(runs.values()))
    shared = {key: value for key, value in first.items() if all(run.get(key) == value for run in runs.values())}
    each = {name: {key: run[key] for key in sorted(run) if key not in shared} for name, run in runs.items()}
    return {EVERY: {key: shared[key] for key in sorted(shared)}, **each}


@pytest.mark.parametrize("experiment", targets())
def test_experiments_are_composed_as_they_were(experiment: str) -> None:
    assert composed(experiment) == json.loads(GOLDEN.read_text())[experiment]


@pytest.mark.parametrize("experiment", targets())
def test_an_experiment_sweeps_over_the_papers_rows(experiment: str) -> None:
    target = targets()[experiment]
    with open_configuration() as loader:
        runs = [run.identity for run in plan(loader, [f"experiment={experiment}"])]
    assert {(run.data, run.router, run.seed) for run in runs} == {
        (data, router, seed)
        for data in target.data.values()
        for router in target.routers
        for seed in range(1, target.expected_seeds + 1)
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: composed(name) for name in targets()}, indent=1) + "\n")
