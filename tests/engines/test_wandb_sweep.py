"""`capsbench wandb-sweep`: its file is one of wandb's, and wandb's own agent starts runs with it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from capsbench.commands import cli

pytestmark = pytest.mark.engines
Read = Callable[[Path], dict[Path, list[Any]]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Print a sweep file, as a user does; returns its path."""
    monkeypatch.chdir(tmp_path)
    for name in ("API_KEY", "MODE", "PROJECT", "ENTITY", "DIR", "SWEEP_ID", "RUN_ID", "SWEEP_PARAM_PATH"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def printed(*arguments: str) -> Path:
        capsys.readouterr()
        cli.main(["wandb-sweep", *arguments])
        path = tmp_path / "sweep.yaml"
        path.write_text(capsys.readouterr().out)
        return path

    return printed


def test_the_file_is_a_sweep_of_wandbs(sweep: Callable[..., Path]) -> None:
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    path = sweep("router=fm,dynamic", "seed=range(1,4)", "optim.optimizer.lr=1e-3,1e-4", "arch.vote_gain=null,0.5")
    loaded = load_sweep_config(str(path))
    assert loaded is not None
    assert _validate_config_and_fill_distribution(loaded) == loaded
    assert loaded["method"] == "grid"
    assert loaded["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert loaded["parameters"] == {
        "router": {"values": ["fm", "dynamic"]},
        "seed": {"values": [1, 2, 3]},
        "optim.optimizer.lr": {"values": [0.001, 0.0001]},
        "arch.vote_gain": {"values": ["null", 0.5]},
    }
    assert "data.val_fraction=0.1" in loaded["command"]


def test_an_experiment_brings_its_own_sweep(sweep: Callable[..., Path]) -> None:
    loaded = yaml.safe_load(sweep("experiment=table2", "router=fm", "data.val_fraction=0.2").read_text())
    assert {key: len(parameter["values"]) for key, parameter in loaded["parameters"].items()} == {"data": 3, "seed": 3}
    assert {"experiment=table2", "router=fm", "data.val_fraction=0.2"} <= set(loaded["command"])
    assert loaded["name"] == "table2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["router=fm"], "no setting has several values, so there is nothing to sweep over; give some, as in seed=1,2"),
        (["seed=1,2", "data.val_fraction=0"], "so data.val_fraction must be above 0; leave it out for 0.1"),
        (["router=fm,fmm"], "there is no router=fmm; did you mean fm"),
    ],
)
def test_what_is_no_sweep_is_one_line(sweep: Callable[..., Path], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as error:
        sweep(*arguments)
    assert said in str(error.value)
    assert error.value.code == 2


def test_an_agent_starts_runs_with_it_and_a_finished_one_is_logged_again(
    sweep: Callable[..., Path], read_wandb: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.wandb_agent import Agent

    own = tmp_path / "conf" / "router" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: capsbench.routing.DynamicRouting\n_partial_: true\niterations: 2\n")
    words = ("trainer=smoke", "data.subset=64", "router=mine,dynamic", "seed=1,2", "--config-dir", "conf")
    loaded = yaml.safe_load(sweep(*words).read_text())
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    of_agent = {"SWEEP_ID": "s1", "DIR": str(tmp_path / "agent"), "RUN_ID": "none", "SWEEP_PARAM_PATH": "none"}
    for name, value in of_agent.items():  # it sets the last two itself, and would leave them behind
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setattr("wandb.teardown", lambda *_: None)
    agent = Agent(api=None, queue=None, sweep_id="s1")
    agent._sweep_command = loaded["command"]
    for number in (1, 2):
        run = f"run{number}"
        asked = {key: {"value": parameter["values"][0]} for key, parameter in loaded["parameters"].items()}
        command = {"type": "run", "run_id": run, "program": loaded["program"], "args": asked}
        assert agent._process_command(command).get("exception") is None
        assert agent._run_processes[run].wait(timeout=240) == 0
    (result,) = tmp_path.rglob("result.json")
    assert result.parent.name.startswith("seed1-")
    assert result.parent.parent.name == "mine"
    files = read_wandb(tmp_path)
    assert {path.stem for path in files} == {"run-run1", "run-run2"}, "filed as the agent says"
    for records in files.values():
        logged = {item.key or item.nested_key[0] for record in records for item in record.history.item}
        summary = {item.key or item.nested_key[0] for record in records for item in record.summary.update}
        assert loaded["metric"]["name"] in logged & summary
