"""The paper's runs in both protocols, as conf/experiment composes them.

Where a change of settings is meant, write the file anew: python tests/launch/test_protocols.py
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from capsbench.launch.config import CONF, open_configuration
from capsbench.launch.protocols import protocol
from capsbench.launch.sweep import plan
from capsbench.reports.paper import Target, target_of, targets
from capsbench.reports.protocol import flat

GOLDEN = Path(__file__).with_name("protocols.json")
EVERY = "every run"
OF_AUTHORS = [target.of_authors().name for target in targets().values()]
EXPERIMENTS = [*targets(), *OF_AUTHORS]
MORE_ROUTERS = {"table3_authors": {"dynamic1", "dynamic2", "em1", "em2"}}
"""Those that the authors ran and the paper's table does not have."""


def repeated(experiment: str) -> Target:
    target = target_of(experiment)
    assert target is not None
    return target


def settings(experiment: str) -> dict[str, dict[str, Any]]:
    """Choices and settings of each of the paper's runs."""
    target = repeated(experiment)
    runs = {}
    for data in target.data.values():
        for router, name in zip(target.routers, targets()[experiment.partition("_")[0]].routers, strict=True):
            run = protocol(experiment, data, router)
            choices = {group: choice for group, choice in run.choices.items() if group != "logger"}
            runs[f"{data}, {name}"] = choices | flat(run.settings)
    return runs


def composed(experiment: str) -> dict[str, dict[str, Any]]:
    """What all runs of an experiment share, then what each has besides; of the authors' only what the paper's lack."""
    runs = settings(experiment)
    if experiment in OF_AUTHORS:
        paper = settings(experiment.partition("_")[0])
        runs = {name: {k: v for k, v in run.items() if paper[name].get(k, "none") != v} for name, run in runs.items()}
    first = next(iter(runs.values()))
    shared = {key: value for key, value in first.items() if all(run.get(key) == value for run in runs.values())}
    each = {name: {key: run[key] for key in sorted(run) if key not in shared} for name, run in runs.items()}
    return {EVERY: {key: shared[key] for key in sorted(shared)}, **each}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_composed_as_they_were(experiment: str) -> None:
    assert composed(experiment) == json.loads(GOLDEN.read_text())[experiment]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_sweeps_over_the_papers_rows(experiment: str) -> None:
    target = repeated(experiment)
    with open_configuration() as loader:
        runs = [run.identity for run in plan(loader, [f"experiment={experiment}"])]
    assert {run.experiment for run in runs} == {experiment}
    assert {(run.data, run.router, run.seed) for run in runs} == {
        (data, router, seed)
        for data in target.data.values()
        for router in {*target.routers, *MORE_ROUTERS.get(experiment, ())}
        for seed in range(1, target.expected_seeds + 1)
    }


@pytest.mark.parametrize("experiment", OF_AUTHORS)
def test_the_authors_protocol_says_only_what_differs(experiment: str) -> None:
    said = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    (paper, *_), (authors, *_) = settings(experiment.partition("_")[0]).values(), settings(experiment).values()
    for key in flat({part: said[part] for part in said if part not in ("defaults", "hydra")}):
        assert authors[key] != paper[key], key


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_setting_says_whose_it_is(experiment: str) -> None:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    for line in re.findall(r"^ +(?:- override )?[\w/]+: +[^#\s].*$", text, re.MULTILINE):
        assert re.search(r" # (text|He|code|ours)\b", line), line


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: composed(name) for name in EXPERIMENTS}, indent=1) + "\n")
