"""`capsbench benchmark`, as typed."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capsbench.benchmarks import pages, scaling
from capsbench.benchmarks.bounds import Speeds
from capsbench.benchmarks.measure import Measurement

Run = Callable[..., None]


def record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"outputs/benchmarks/{name}.json").read_text())
    return found


def test_it_writes_and_prints_what_it_measured(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("capsbench.benchmarks.data.NUM_IMAGES", 512)
    monkeypatch.setattr("capsbench.benchmarks.data.NUM_FILES", 20)
    capsbench("benchmark", "data", "repetitions=1")
    written = record("data")
    assert (written["schema"], written["benchmark"], written["settings"]) == (2, "data", {"repetitions": 1})
    assert all(one["median"] > 0 for one in written["measurements"])
    assert {"devices", "versions", "git_commit"} <= written.keys()
    assert written["load"].keys() == {"before", "after", "cores"}
    assert "Multi-MNIST" in capsys.readouterr().out


def test_a_table_and_a_picture_are_written_beside_it(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    capsbench("benchmark", "table1", "arch=capsnet_light", "repetitions=1", "batch=1", "routers=[fm,dynamic1]")
    written = record("table1")
    settings = {"repetitions": 1, "batch": 1, "routers": ["fm", "dynamic1"], "arch": "capsnet_light"}
    assert written["settings"] == settings
    assert {one["router"] for one in written["measurements"]} == {"fm", "dynamic1", None}
    assert "Dynamic (1)" in Path("outputs/benchmarks/table1.md").read_text()
    assert "Dynamic (1)" in capsys.readouterr().out
    monkeypatch.setattr(scaling, "SIZES", {"children": (2, 4)})
    capsbench("benchmark", "scaling", "repetitions=1", "routers=[fm]")
    assert Path("outputs/benchmarks/scaling.png").stat().st_size > 1000


def test_routers_of_ones_own_are_measured(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("mine", "router")
    folder.mkdir(parents=True)
    (folder / "half.yaml").write_text("_target_: capsbench.routing.FMAgreement\n_partial_: true\nscale: 0.25\n")
    monkeypatch.setattr(scaling, "SIZES", {"children": (2,)})
    capsbench("benchmark", "scaling", "repetitions=1", "routers=[half]", "--config-dir", "mine")
    assert [one["router"] for one in record("scaling")["measurements"]] == [None, "half"]
    capsbench("benchmark", "scaling", "repetitions=1", "router=half", "--config-dir", "mine")
    assert [one["router"] for one in record("scaling")["measurements"]] == [None, "half"]


def test_a_layer_of_any_shape(capsbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsbench.benchmarks.layer.measure_speeds", lambda device: Speeds(1e9, 1e9))
    capsbench("benchmark", "layer", "children=6", "parents=3", "dims=[4,5]", "batch=[1,2]", "repetitions=1")
    written = record("layer")
    assert {(one["subject"], one["size"]) for one in written["measurements"] if one["router"]} == {
        ("6 to 3, 4 to 5 dimensions", 1),
        ("6 to 3, 4 to 5 dimensions", 2),
    }
    assert written["settings"]["batch"] == [1, 2]
    text = Path("outputs/benchmarks/layer.md").read_text()
    assert all(column in text for column in ("Batch", "÷ floor", "GB/s", "÷ einsum", "÷ votes alone"))
    assert Path("outputs/benchmarks/roofline.png").stat().st_size > 1000


def test_pages_are_measured_in_processes_of_their_own(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "SYSTEM", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    seen = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append((command[4:-1], env["THP_MEM_ALLOC_ENABLE"]))
        folder = Path(command[-1].removeprefix("output_dir="), "benchmarks")
        folder.mkdir()
        values = [float(len(seen))]
        of_child = Measurement.of(values, "tiny", "forward and backward", "ms", router="fm", implementation="auto")
        (folder / "layer.json").write_text(json.dumps({"measurements": [asdict(of_child)]}))
        return subprocess.CompletedProcess(command, 0)

    processes = SimpleNamespace(run=run, DEVNULL=None)
    monkeypatch.setattr(pages, "subprocess", processes)
    capsbench("benchmark", "layer", "routers=[fm]", "pages=both", "output_dir=there")
    assert seen == [(["layer", "routers=[fm]"], "0"), (["layer", "routers=[fm]"], "1")]
    written = json.loads(Path("there/benchmarks/layer.json").read_text())
    assert [(one["pages"], one["median"]) for one in written["measurements"]] == [("dear", 1.0), ("cheap", 2.0)]
    assert "| cheap" in Path("there/benchmarks/layer.md").read_text()
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    with pytest.raises(SystemExit, match=r"error: pages=cheap needs .*enabled to be madvise, and here it is never"):
        capsbench("benchmark", "layer", "pages=cheap")
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    processes.run = lambda command, **_: subprocess.CompletedProcess(command, 3)
    with pytest.raises(SystemExit, match="with dear pages ended with exit code 3"):
        capsbench("benchmark", "layer", "pages=dear")


def test_hours_of_the_paper(capsbench: Run) -> None:
    capsbench("benchmark", "paper", "repetitions=1", "steps=1", "experiments=[table5]")
    measured = {(one["subject"], one["quantity"]): one for one in record("paper")["measurements"]}
    step = measured["table5, multi_mnist", "training step"]["median"]
    hours = measured["table5", "all runs"]
    assert hours["median"] >= 3 * 40_000 * step / 3.6e6, "three seeds, 40,000 steps each"
    assert measured["all experiments", "all runs"]["median"] == hours["median"]
    assert measured["table5, multi_mnist", "all runs"]["size"] == 3


def test_what_systems_cost(capsbench: Run) -> None:
    capsbench("benchmark", "systems", "systems=[resnet20]", "data=[fashion_mnist,cifar10]", "repetitions=1", "batch=1")
    found = {(one["subject"], one["quantity"], one["unit"]): one["median"] for one in record("systems")["measurements"]}
    assert found["resnet20, fashion_mnist", "parameters", "parameters"] == 271_994
    assert found["resnet20, cifar10", "parameters", "parameters"] == 272_282
    assert "0.27M (32×32×3)" in Path("outputs/benchmarks/systems.md").read_text()


def test_an_unknown_benchmark(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        capsbench("benchmark", "dta")
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: there is no capsbench benchmark dta; did you mean data? There are: contention, data,"
    )
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paper", "experiments=[fig9]"], "error: there is no experiment fig9 of the paper; there are: fig4, fig5,"),
        (["paper", "experiments=fig4"], "error: experiments must be a list such as [a,b], got fig4"),
        (["layer", "routers=fm"], "error: routers must be a list such as [a,b], got fm"),
        (["layer", "routers=[fn]"], "error: "),
        (["layer", "output_dir=/proc/nowhere"], "error: cannot use /proc/nowhere"),
        (["layer", "repetitions=0"], "error: repetitions must be a whole number of at least 1, got 0"),
        (
            ["layer", "router=fm", "routers=[fm]"],
            "error: router is one alone, routers are several; give router=NAME or",
        ),
        (
            ["table1", "arch=resnet"],
            "error: arch must be capsnet or capsnet_light, the networks of table1, got resnet",
        ),
        (["layer", "children=0"], "error: children must be a whole number of at least 1, got 0"),
        (["layer", "parents=many"], "error: parents must be a whole number or null, got many"),
        (
            ["layer", "dims=[8]"],
            "error: dims must be the dimensions of a child and of a parent such as [8,16], got [8]",
        ),
        (["layer", "dims=[8,x]"], "error: dims must be the dimensions of a child and of a parent such as [8,16], got"),
        (["layer", "batch=[1,0]"], "error: batch must be a whole number of at least 1 or a list of them such as [1,8"),
        (["layer", "batch=[]"], "error: batch must be a whole number of at least 1 or a list of them such as [1,8"),
        (["table1", "batch=[1,2]"], "error: batch must be a whole number of at least 1, got [1,2]"),
        (["layer", "pages=huge"], "error: pages must be dear, cheap or both, got huge"),
        (["layer", "repetitions=few"], "error: repetitions must be a whole number or null, got few"),
        (["systems", "systems=[resnet21]"], "error: "),
        (["train", "steps=many"], "error: steps must be a whole number, got many"),
    ],
)
def test_bad_settings(capsbench: Run, arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as error:
        capsbench("benchmark", *arguments)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
