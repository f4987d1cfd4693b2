"""The dashboard plots what runs log: its specification against the file of a real offline run."""

import builtins
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from capsbench.commands import cli

ALWAYS_THERE = {"group", "createdAt", "displayName"}
"""What W&B itself knows of every run."""


class Logged(NamedTuple):
    """The keys of an offline run, nested ones joined by dots, and how it is filed."""

    config: set[str]
    history: set[str]
    summary: set[str]
    run: Any


def command(*arguments: str) -> None:
    cli.main(list(arguments))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two tiny runs with logger=wandb leave; one is tested, one validated."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for part in (["data.val_fraction=0.0"], ["data.val_fraction=0.5", "router=inverted_attention"]):
            command("train", "trainer=smoke", "decoder=deconv", "data.subset=64", "logger=wandb", *part)
    return folder / "outputs"


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no network, an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("it asked the network"))


def read_all(records: Iterable[Record]) -> Logged:
    logged = Logged(set(), set(), set(), [])
    for record in records:
        if record.HasField("run"):
            logged.run.append(record.run)
        for item in record.config.update:
            logged.config.update(nested(item.key, json.loads(item.value_json)))
        for item in record.history.item:
            logged.history.add(item.key or item.nested_key[0])
        for item in record.summary.update:
            logged.summary.add(item.key or item.nested_key[0])
    return logged


def nested(key: str, value: Any) -> Iterator[str]:
    yield key
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from nested(f"{key}.{name}", inner)


def panels(node: Any) -> Iterator[dict[str, Any]]:
    """Every panel in a specification, wherever it is."""
    if isinstance(node, dict):
        if "viewType" in node:
            yield node
        for inner in node.values():
            yield from panels(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from panels(inner)


def plotted(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a panel takes its values from: (history, summary or config, key)."""
    config, kind = panel["config"], panel["viewType"]
    if "groupBy" in config:
        yield "config", config["groupBy"]
    if kind == "Run History Line Plot":
        yield from (("history", key) for key in (config["xAxis"], *config.get("metrics", [])))
        if config.get("useMetricRegex"):
            yield "history", f"/{config['metricRegex']}/"
    elif kind == "Bar Chart":
        yield from (("summary", key) for key in config["metrics"])
    elif kind == "Media Browser":
        yield from (("history", key) for key in config["mediaKeys"])
    else:
        accessors = [column["accessor"] for column in config.get("columns", [])]
        accessors += [config[axis] for axis in ("xAxis", "yAxis") if axis in config]
        assert accessors, f"a panel that this test cannot read: {kind}"
        yield from (tuple(accessor.split(":", 1)) for accessor in accessors)


def filtered(node: Any) -> Iterator[tuple[str, str]]:
    """What the sets of runs are filtered and sorted by."""
    if isinstance(node, dict):
        if {"section", "name"} <= node.keys() and isinstance(node["section"], str):
            yield node["section"], node["name"]
        for inner in node.values():
            yield from filtered(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from filtered(inner)


def test_every_key_of_the_dashboard_is_logged(
    outputs: Path,
    read_wandb: Callable[[Path], dict[Path, list[Record]]],
    nobody: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logged = read_all(record for records in read_wandb(outputs).values() for record in records)
    command("dashboard", "--dry-run", f"output_dir={outputs}")
    specified = json.loads(capsys.readouterr().out)
    kinds = {panel["viewType"] for panel in panels(specified)}
    assert kinds == {
        *("Run History Line Plot", "Bar Chart", "Scatter Plot", "Parallel Coordinates Plot", "Media Browser")
    }
    (workspace,) = specified["workspaces"]
    assert len(list(panels(workspace))) == len(list(panels(specified["report"]))) == 14
    keys = {key for panel in panels(specified) for key in plotted(panel)} | set(filtered(specified))
    assert len(keys) > 12
    for place, key in keys:
        known = ALWAYS_THERE if place == "run" else getattr(logged, place)
        if key.startswith("/"):
            assert any(re.search(key.strip("/"), each) for each in known), f"{place}: {key}"
            continue
        assert key.replace(".value", "", 1) in known, f"{place}: {key}"


def test_how_a_run_is_filed(outputs: Path, read_wandb: Callable[[Path], dict[Path, list[Record]]]) -> None:
    logged = read_all(next(iter(read_wandb(outputs).values())))
    run = logged.run[0]
    assert (run.project, run.run_group, run.job_type) == ("capsbench", "adhoc/digits/resnet_capsnet_small", "fm")
    assert list(run.tags) == ["adhoc", "digits", "resnet_capsnet_small", "fm"]
    assert {"identity", "seed", "router.scale", "choices.router"} <= logged.config
    assert {"parameters", "wall_time_s", "smoke", "train/images_per_second", "test/accuracy"} <= logged.summary


def test_the_comparisons_of_an_output_folder(
    outputs: Path, nobody: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def names(*arguments: str) -> list[str]:
        command("dashboard", "--dry-run", *arguments)
        return [workspace["displayName"] for workspace in json.loads(capsys.readouterr().out)["workspaces"]]

    assert names(f"output_dir={outputs}") == ["CapsBench adhoc/digits/resnet_capsnet_small"]
    assert names() == ["CapsBench all runs"]
    assert names("group=[a/b/c,d/e/f]") == ["CapsBench a/b/c", "CapsBench d/e/f"]


def test_its_variables_say_whose_comparison_it_is(
    nobody: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def place(*arguments: str) -> tuple[str, str]:
        command("dashboard", "--dry-run", *arguments)
        (workspace,) = json.loads(capsys.readouterr().out)["workspaces"]
        return workspace["entity"], workspace["project"]

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    assert place() == ("your-entity", "capsbench")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert place() == ("team", "ours")
    assert place("project=mine", "entity=me") == ("me", "mine")


def test_errors_are_one_line(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: str) -> str:
        with pytest.raises(SystemExit) as error:
            command("dashboard", *arguments)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert fails("group=demo", "--dry-run").startswith("error: a comparison is named EXPERIMENT/DATA/ARCH")
    for arguments in ([], ["entity=somebody"]):
        assert fails(*arguments) == (
            "error: nobody is logged in to Weights & Biases: run wandb login, or look with --dry-run"
        )

    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("wandb_workspaces"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "capsbench.reports.workspace", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert fails("--dry-run").endswith("pip install 'capsbench[dashboard]'")
