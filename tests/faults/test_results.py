"""A result is checked before it is believed: a bad one is named and left out, the others are reported."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.publish import experiments, publish
from capsbench.runs import Result, RunFolder

Command = Callable[..., Path]
Change = Callable[[dict[str, Any]], object]
GOOD = (0.9, 0.8, 0.7)


def save(outputs: Path, seed: int, accuracy: float, experiment: str = "demo", **changes: Any) -> Path:
    result = Result(
        experiment=experiment,
        data="digits",
        arch="capsnet",
        router="fm",
        seed=seed,
        identity="",
        settings={"seed": seed, "data": {"seed": seed}, "router": {"scale": 0.5}, "trainer": {"max_epochs": 1}},
        choices={"router": "fm"},
        metrics={"test/accuracy": accuracy, "test/loss": 0.5, "train/accuracy": accuracy},
        history=[{"epoch": 1, "step": 9, "train/accuracy": accuracy, "test/accuracy": accuracy}],
        epochs=1,
        steps=9,
        data_title="digits",
        device="cpu",
        confusion={"test": [[5, 1], [2, 4]]},
        class_names=["zero", "one"],
        machine_load={"before": 0.5, "after": 0.5, "cores": 2},
        identity_version=2,
    )
    result = replace(result, **changes)
    result = replace(result, identity=result.run.digest)
    folder = result.run.folder(outputs)
    folder.mkdir(parents=True)
    result.save(folder)
    return folder


@pytest.fixture
def folders(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three seeds of one router."""
    monkeypatch.setenv("COLUMNS", "400")
    return [save(Path("outputs"), seed, accuracy) for seed, accuracy in enumerate(GOOD, start=1)]


@pytest.fixture
def report(folders: list[Path], capsbench: Command, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Report on these and on what a test added: checks what the table says, and returns what was printed."""

    def run(*, faults: int, means: list[float]) -> str:
        with pytest.raises(SystemExit) as error:
            capsbench("report", "experiment=demo")
        assert error.value.code == 1
        assert str(error.value) == f"error: {faults} files cannot be believed and were left out; each is named above"
        table = pd.read_csv("outputs/demo/report/table.csv")
        assert table["n"].tolist() == [len(means)]
        assert table["mean"].tolist() == pytest.approx([100 * sum(means) / len(means)])
        return capsys.readouterr().out

    return run


def change(folder: Path, edit: Change) -> None:
    path = RunFolder(folder).result
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


def metric(value: object, name: str = "test/accuracy") -> Change:
    return lambda record: record["metrics"].update({name: value})


def field(name: str, value: object) -> Change:
    return lambda record: record.update({name: value})


def setting(name: str, value: object) -> Change:
    return lambda record: record["settings"].update({name: value})


def history(**values: object) -> Change:
    return lambda record: record["history"][0].update({name.replace("_", "/"): value for name, value in values.items()})


EDITS: list[tuple[Change, str]] = [
    (metric(-5), "metrics.test/accuracy must be from 0 to 1, got -5"),
    (metric(17), "metrics.test/accuracy must be from 0 to 1, got 17"),
    (metric("0.9"), "metrics.test/accuracy"),
    (metric(None), "metrics.test/accuracy"),
    (metric(True), "metrics.test/accuracy"),
    (metric([0.9]), "metrics.test/accuracy"),
    (metric(float("nan")), "metrics.test/accuracy"),
    (metric(float("inf"), "test/loss"), "metrics.test/loss"),
    (metric(-0.5, "test/loss"), "metrics.test/loss must be at least 0, got -0.5"),
    (metric(1.5, "test/accuracy_overlapping"), "metrics.test/accuracy_overlapping must be from 0 to 1"),
    (lambda record: record["metrics"].clear(), "metrics.test/accuracy is missing"),
    (lambda record: record.pop("metrics"), "metrics: Field required"),
    (lambda record: record.pop("settings"), "its settings are missing"),
    (lambda record: record.pop("seed"), "seed"),
    (field("metrics", [0.9]), "metrics"),
    (field("settings", []), "its settings are missing"),
    (field("seed", "1"), "seed"),
    (field("seed", -1), "seed"),
    (field("epochs", 1.5), "epochs"),
    (field("steps", -1), "steps"),
    (field("wall_time_s", -3.0), "wall_time_s"),
    (field("smoke", "no"), "smoke"),
    (field("date", 5), "date"),
    (field("history", []), "history must have ascending epochs"),
    (field("history", [{"epoch": 2}, {"epoch": 1}]), "history must have ascending epochs"),
    (history(epoch=0.5), "history"),
    (history(test_accuracy=7), "history.0.test/accuracy must be from 0 to 1, got 7"),
    (field("confusion", {"test": [[5, 1], [2, -4]]}), "confusion.test"),
    (field("confusion", {"test": [[5, 1.5], [2, 4]]}), "confusion.test"),
    (field("confusion", {"test": [[5, 1], [2]]}), "confusion.test must have 2 rows and columns"),
    (field("confusion", {"test": [[5]]}), "confusion.test must have 2 rows and columns"),
    (field("confusion", {"test": [[0, 0], [0, 0]]}), "confusion.test must have 2 rows and columns"),
    (field("load", {"before": "low"}), "machine_load.before"),
    (field("load", {"before": -1}), "machine_load.before"),
    (field("router", "x" * 2**20), "a text has 1,048,576 characters"),
    (field("data_title", "x" * 2000), "data_title"),
    (setting("data", 5), "settings.data must be a JSON object"),
    (setting("callbacks", None), "settings.callbacks must be a JSON object"),
    (setting("router", {"scale": 1.0}), "but its settings are those of"),
    (setting("seed", 2), "but 2 in its settings"),
    (field("schema", 99), "its schema must be a whole number up to 3"),
    (field("unheard_of", 1), "unheard_of"),
    (field("router", "../fm"), "was the folder copied or renamed?"),
]

CONTENTS: list[tuple[bytes, str]] = [
    (b"", "EOF"),
    (b"[]", "it is no JSON object"),
    (b"null", "it is no JSON object"),
    (b"[" * 100_000, "recursion"),
    (b'{"settings": ' * 100_000, "recursion"),
    (b"\xff\xfe", "column 1"),
    (b"{" + b" " * 2**25, "more than the 16,777,216"),
]


def assert_named(printed: str, folder: Path, told: str) -> None:
    start = f"left out: {folder / 'result.json'} is no valid result: "
    (line,) = [line for line in printed.splitlines() if line.startswith(start)]
    assert told in line
    assert len(line) < 1000


def test_bad_values_are_named_and_the_others_are_reported(report: Callable[..., str], folders: list[Path]) -> None:
    bad = [save(Path("outputs"), 100 + number, 0.9) for number in range(len(EDITS) + len(CONTENTS))]
    for folder, (edit, _) in zip(bad, EDITS, strict=False):
        change(folder, edit)
    for folder, (content, _) in zip(bad[len(EDITS) :], CONTENTS, strict=True):
        (folder / "result.json").write_bytes(content)
    printed = report(faults=len(bad), means=list(GOOD))
    for folder, (_, told) in zip(bad, [*EDITS, *CONTENTS], strict=True):
        assert_named(printed, folder, told)


def test_pipes_folders_and_links_are_not_read(report: Callable[..., str], folders: list[Path]) -> None:
    told = []
    for number, kind in enumerate(("pipe", "folder", "link", "lost link")):
        folder = save(Path("outputs"), 100 + number, 0.9)
        (folder / "config.yaml").touch()
        path = folder / "result.json"
        path.rename("there.json")
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(Path("there.json" if kind == "link" else "nowhere.json").absolute())
        told.append((folder, "it is a link" if "link" in kind else "it is not a regular file"))
    printed = report(faults=len(told), means=list(GOOD))
    for folder, words in told:
        assert_named(printed, folder, words)


def test_a_copied_folder_is_no_other_seed(report: Callable[..., str], folders: list[Path]) -> None:
    copies = [folders[0].with_name(name) for name in ("seed9-00000000", "seed1-copy", f"copy of {folders[0].name}")]
    copies.append(folders[0].parents[1] / "em" / folders[0].name)
    for copy in copies:
        shutil.copytree(folders[0], copy)
    printed = report(faults=len(copies), means=list(GOOD))
    for copy in copies:
        assert_named(printed, copy, "it is of the run demo/digits/capsnet/fm/seed1-")


def test_one_run_in_two_folders_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first schema the digest of a folder cannot be known."""
    monkeypatch.chdir(tmp_path)
    record = json.loads((Path(__file__).parents[1] / "runs" / "result_schema1.json").read_text())
    places = [Path("outputs", record["experiment"], record["data"], record["arch"], record["router"])] * 2
    places = [place / f"seed{record['seed']}-{8 * digit}" for place, digit in zip(places, "01", strict=True)]
    for place in places:
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(record))
    loaded = Comparison.of(Path("outputs", record["experiment"]), protocol)
    assert len(loaded.runs) == 1
    assert loaded.faults == (f"{places[1]} holds the same run as {places[0]}, which counts; delete one",)


def test_a_report_on_all_goes_on_where_an_experiment_has_only_bad_results(
    folders: list[Path], capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = save(Path("outputs"), 1, 0.9, "other")
    change(bad, metric(17))
    with pytest.raises(SystemExit, match="1 files cannot be believed"):
        capsbench("report")
    assert f"left out: {bad / 'result.json'} is no valid result" in capsys.readouterr().out
    assert "demo" in Path("outputs/report.html").read_text()


def test_a_report_without_any_good_result_names_the_bad_ones(
    folders: list[Path], capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in folders:
        change(folder, metric(None))
    with pytest.raises(SystemExit, match="no finished runs in outputs/demo"):
        capsbench("report", "experiment=demo")
    printed = capsys.readouterr().out
    assert all(f"left out: {folder / 'result.json'} is no valid" in printed for folder in folders)


def test_a_bad_result_is_not_published(folders: list[Path], capsbench: Command) -> None:
    change(folders[0], metric(17))
    with pytest.raises(SystemExit, match="1 files cannot be believed"):
        capsbench("report", "experiment=demo", "publish=true")
    assert len(list(Path("outputs/published").rglob("result.json"))) == 2


def test_what_was_measured_later_is_checked_too(report: Callable[..., str], folders: list[Path]) -> None:
    r2 = {"value": 17, "low": 0, "high": 1}
    contents: list[tuple[str, object]] = [
        ("evaluation-test.json", {"metrics": {"test/accuracy": 17}}),
        ("evaluation-test.json", {"metrics": {}}),
        ("evaluation-test.json", {"metrics": {"test/accuracy": 0.5}, "identity": "00000000"}),
        ("evaluation-test.json", []),
        ("equivariance.json", {"equivariance": {"pose": {"rotation": r2}}, "invariance": {}}),
        ("equivariance.json", {"equivariance": {}, "invariance": {}}),
        ("equivariance.json", []),
    ]
    more = [save(Path("outputs"), 100 + number, 0.9) for number in range(len(contents))]
    for folder, (name, content) in zip(more, contents, strict=True):
        (folder / name).write_text(json.dumps(content))
    printed = report(faults=len(contents), means=[*GOOD, *[0.9] * len(more)])
    for folder, (name, _) in zip(more, contents, strict=True):
        assert f"left out: {folder / name} is not what capsbench wrote: " in printed


def test_failed_runs_that_do_not_say_what_they_were(report: Callable[..., str], folders: list[Path]) -> None:
    contents = ("[]", "{}", '{"experiment": "demo"}', "[")
    bad = [save(Path("outputs"), 100 + number, 0.9) for number in range(len(contents))]
    for folder, content in zip(bad, contents, strict=True):
        (folder / "result.json").unlink()
        (folder / "error.txt").write_text("loss is NaN")
        (folder / "identity.json").write_text(content)
    printed = report(faults=len(bad), means=list(GOOD))
    assert all(f"left out: {folder / 'identity.json'} is no identity of a run" in printed for folder in bad)


def test_analyze_and_evaluate_leave_a_bad_result_out(
    folders: list[Path], capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in folders:
        (folder / "config.yaml").write_text("data: {}")
    change(folders[0], metric(17))
    for command in (("evaluate",), ("analyze", "equivariance")):
        with pytest.raises(SystemExit):
            capsbench(*command, "run=outputs/demo")
        assert f"left out: {folders[0] / 'result.json'} is no valid result" in capsys.readouterr().out


def test_a_name_lists_only_what_lies_below_the_outputs(folders: list[Path], capsbench: Command) -> None:
    Path("outputs/names").mkdir()
    for listed in ("/etc", "../elsewhere", "demo/../../x"):
        Path("outputs/names/monday.json").write_text(json.dumps([listed]))
        with pytest.raises(SystemExit, match=r"monday\.json is no list of folders"):
            capsbench("report", "names=monday")


def seeds_by_experiment(outputs: Path) -> dict[str, list[int]]:
    """As `capsbench report` compares them, without a figure of each."""
    names = experiments(outputs)
    found = {name: Comparison.of(outputs / name, protocol, name=name) for name in names}
    return {name: sorted(run.result.seed for run in comparison.runs) for name, comparison in found.items()}


@pytest.mark.parametrize("inner", ["demo/outputs", "demo/digits"])
def test_an_output_folder_inside_another_is_not_merged(folders: list[Path], inner: str) -> None:
    outputs = Path("outputs")
    nested = [save(outputs / inner, 4, 0.1, experiment) for experiment in ("demo", "other")]
    assert seeds_by_experiment(outputs) == {"demo": [1, 2, 3], f"{inner}/demo": [4], f"{inner}/other": [4]}
    found = Comparison.of(outputs / "demo", protocol)
    assert found.elsewhere == tuple(nested)
    assert not found.faults


def test_experiments_whose_names_have_a_slash_are_not_merged(folders: list[Path]) -> None:
    outputs = Path("outputs")
    for seed, name in ((4, "demo/deep"), (5, "other/deep"), (6, "other/deeper"), (7, "other/table3")):
        save(outputs, seed, 0.1, name)
    alone = {"demo/deep": [4], "other/deep": [5], "other/deeper": [6], "other/table3": [7]}
    assert seeds_by_experiment(outputs) == {"demo": [1, 2, 3], **alone}
    published = publish(Comparison.of(outputs / "other/deep", protocol, name="other/deep"), outputs, protocol)
    assert published == outputs / "published/other/deep"
    assert pd.read_csv(published / "report/table.csv")["n"].tolist() == [1]


def test_an_unfinished_run_of_an_output_folder_inside_is_not_told_as_one_of_the_experiment(
    folders: list[Path], capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = save(Path("outputs/demo/outputs"), 4, 0.1, "other")
    result = Result.load(nested)
    result.run.save(nested / "identity.json")
    (nested / "result.json").unlink()
    (nested / "error.txt").write_text("loss is NaN")
    done = save(Path("outputs/demo/outputs"), 5, 0.1, "other")
    capsbench("report", "experiment=demo")
    printed = capsys.readouterr().out
    assert "loss is NaN" not in printed
    assert f"left out: {done} is in another output folder, inside outputs/demo" in printed
