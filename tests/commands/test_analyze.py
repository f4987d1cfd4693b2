"""`capsbench analyze` on real runs of a few steps, and what it says to bad input."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from capsbench.commands import analyze, cli
from capsbench.data import Digits
from capsbench.inference import load

Command = Callable[..., None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one with a decoder."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for options in (["decoder=deconv", "router=fm"], ["decoder=none", "router=dynamic"]):
            command = ["capsbench", "train", *options, "data.subset=200", "trainer.max_epochs=1"]
            patch.setattr(sys, "argv", [*command, "trainer.enable_progress_bar=false"])
            cli.main()
    return root


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def capsbench(monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["capsbench", *arguments])
        cli.main()

    return run


def only_run(router: str) -> Path:
    (result,) = Path("outputs").glob(f"adhoc/digits/resnet_capsnet_small/{router}/*/result.json")
    return result.parent


def says(capsbench: Command, *arguments: str) -> str:
    with pytest.raises(SystemExit) as error:
        capsbench("analyze", *arguments)
    line = str(error.value)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def test_a_run_with_a_decoder_has_pictures_and_counts_the_decoder(here: Path) -> None:
    folder = only_run("fm")
    assert (folder / "pictures" / "reconstructions.png").is_file()
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]["test/reconstruction"] > 0
    assert result["parameters"] > json.loads((only_run("dynamic") / "result.json").read_text())["parameters"]
    assert not (only_run("dynamic") / "pictures").exists()


def test_pictures_can_be_made_again_and_of_another_class(here: Path, capsbench: Command) -> None:
    folder = only_run("fm")
    first = (folder / "pictures" / "reconstructions.png").read_bytes()
    shutil.rmtree(folder / "pictures")
    capsbench("analyze", "reconstructions", f"run={folder}")
    assert (folder / "pictures" / "reconstructions.png").read_bytes() == first
    capsbench("analyze", "reconstructions", f"run={folder}", "classes=[7]")
    assert (folder / "pictures-7" / "reconstructions.png").read_bytes() != first


def test_equivariance_of_all_runs_below_a_folder_and_in_the_report(
    here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("analyze", "equivariance", "run=outputs", "curve_examples=50", "curve_steps=3")
    for router in ("fm", "dynamic"):
        measured = json.loads((only_run(router) / "equivariance.json").read_text())
        assert measured["measure"] == "pairs of one digit"
        assert set(measured["equivariance"]) == {"pose", "pose per class", "moments", "features", "activations"}
        assert set(measured["equivariance"]["pose"]["rotation"]) == {"value", "low", "high", "digits"}
        assert len(measured["invariance"]["rotation"]["accuracy"]) == 3
    assert len(list(here.rglob("equivariance.png"))) == len(list(here.rglob("invariance.png"))) == 1
    printed = capsys.readouterr().out
    assert "pose, one map per class" in printed
    capsbench("report", "experiment=adhoc")
    page = Path("outputs", "adhoc", "report.html").read_text()
    assert "Equivariance" in page
    assert Path("outputs", "adhoc", "report", "equivariance.png").is_file()
    assert "Reconstructions: FM" in page
    assert page.count('<img src="data:image/png;base64,') > 0


def test_pictures_of_a_run_without_decoder(here: Path, capsbench: Command) -> None:
    said = says(capsbench, "reconstructions", f"run={only_run('dynamic')}")
    assert "no decoder; train one with decoder=deconv or decoder=dense" in said


def test_not_a_run(here: Path, capsbench: Command) -> None:
    assert "nowhere is not a run's folder" in says(capsbench, "equivariance", "run=nowhere")
    Path("empty").mkdir()
    assert "empty is not a run's folder, and there is no finished run below it" in says(
        capsbench, "equivariance", "run=empty"
    )


def test_an_unfinished_run(here: Path, capsbench: Command) -> None:
    folder = only_run("fm")
    (folder / "result.json").unlink()
    assert f"{folder} is not finished, it has no result.json" in says(capsbench, "reconstructions", f"run={folder}")


def test_lost_weights(here: Path, capsbench: Command) -> None:
    folder = only_run("fm")
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert "has lost its weights" in says(capsbench, "reconstructions", f"run={folder}")


def test_weights_of_another_architecture(here: Path, capsbench: Command) -> None:
    checkpoint = Path("checkpoints", "last.ckpt")
    shutil.copy(only_run("dynamic") / checkpoint, only_run("fm") / checkpoint)
    assert "is of another architecture than" in says(capsbench, "reconstructions", f"run={only_run('fm')}")
    torch.save({"weights": 1}, only_run("fm") / checkpoint)
    assert "is of another architecture than" in says(capsbench, "reconstructions", f"run={only_run('fm')}")


@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["truncated", "empty", "garbage"])
def test_a_damaged_checkpoint_is_named(here: Path, capsbench: Command, content: bytes | None) -> None:
    checkpoint = only_run("fm") / "checkpoints" / "last.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2] if content is None else content)
    said = says(capsbench, "reconstructions", f"run={only_run('fm')}")
    assert f"{checkpoint} is damaged" in said
    assert f"delete {only_run('fm')} and train again" in said


@pytest.mark.parametrize("content", ["", "garbage", "a: 1", "[1", "data: 1\narch: 2", "\0"])
def test_a_damaged_configuration_is_named(here: Path, capsbench: Command, content: str) -> None:
    config = only_run("fm") / "config.yaml"
    config.write_text(content)
    assert f"{config} is damaged" in says(capsbench, "reconstructions", f"run={only_run('fm')}")


def test_runs_that_an_analysis_does_not_fit_are_named_and_left_out(
    here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(only_run("fm") / "pictures")
    capsbench("analyze", "reconstructions", "run=outputs")
    assert f"left out: {only_run('dynamic')}: the run has no decoder" in capsys.readouterr().out
    assert (only_run("fm") / "pictures" / "reconstructions.png").is_file()


def test_a_run_that_is_named_itself_must_fit(here: Path, capsbench: Command) -> None:
    shutil.rmtree(only_run("fm") / "pictures")
    said = says(capsbench, "reconstructions", f"run=[{only_run('dynamic')},{only_run('fm')}]")
    assert f"{only_run('dynamic')}: the run has no decoder" in said
    assert "(1 of 2 runs were left out)" in said
    assert (only_run("fm") / "pictures" / "reconstructions.png").is_file(), "the other is done all the same"


def test_what_was_measured_before_an_unfit_run_is_compared(
    here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = analyze.measure_equivariance
    calls = iter((original, unfit))
    monkeypatch.setattr(analyze, "measure_equivariance", lambda *arguments: next(calls)(*arguments))
    capsbench("analyze", "equivariance", "run=outputs", "curve_examples=50", "curve_steps=3")
    printed = capsys.readouterr().out
    assert "has no single shapes" in printed
    assert "pose, one map per class" in printed
    assert len(list(here.rglob("equivariance.png"))) == 1


def unfit(*_: object) -> None:
    raise ValueError("CIFAR-10 has no single shapes on black")


def test_published_copies_are_no_runs(here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("report", "experiment=adhoc", "publish=true")
    capsys.readouterr()
    capsbench("analyze", "reconstructions", "run=outputs")
    assert "published" not in capsys.readouterr().out


def test_settings_are_looked_at_before_anything_is_measured(
    here: Path, capsbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyze, "measure_equivariance", lambda *_: pytest.fail("measured"))
    said = says(capsbench, "equivariance", f"run={only_run('fm')}", "curve_steps=4")
    assert "steps must be an odd number of at least 3, got 4" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["equivariance"], "run must be given: run=DIR"),
        (["equivariance", "run=outputs", "examples=3"], "examples must be a whole number of at least 100, got 3"),
        (["equivariance", "run=outputs", "examples=abc"], "examples must be a whole number, got abc"),
        (["equivariance", "run=outputs", "curve_examples=0"], "curve_examples must be a whole number of at least 1"),
        (["equivariance", "run=outputs", "curve_steps=2"], "curve_steps must be a whole number of at least 3, got 2"),
        (["equivariance", "run=outputs", "curve_steps=true"], "curve_steps must be a whole number, got true"),
        (["reconstructions", "run=outputs", "classes=7"], "classes must be a list of names or numbers"),
        (["reconstructions", "run=outputs", "classes=[[7]]"], "classes must be a list of names or numbers"),
        (
            ["reconstructions", "run=outputs", "classes=[true]"],
            "classes must be a list of names or numbers",
        ),
        (
            ["reconstructions", "run=outputs/adhoc/digits/resnet_capsnet_small/fm", "classes=[12]"],
            "has no class 12; its classes are 0, 1, 2",
        ),
        (["reconstructions", "run=outputs", "clases=[1]"], "there is no setting clases; did you mean classes"),
    ],
)
def test_bad_input_is_one_line(here: Path, capsbench: Command, arguments: list[str], said: str) -> None:
    assert said in says(capsbench, *arguments)


def test_errors_are_drawn_the_surest_first(here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    run = only_run("dynamic")
    capsbench("analyze", "errors", f"run={run}")
    told = capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    wrong = round(360 * (1 - result["metrics"]["test/accuracy"]))
    assert f"{wrong} of 360 test images are taken for another class" in told
    scores = [float(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith("  image ")]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    with Image.open(run / "errors.png") as sheet:
        assert min(sheet.size) > 100
    capsbench("analyze", "errors", f"run={run}", "classes=[3]")
    confusion = result["confusion"]["test"][3]
    assert f"{sum(confusion) - confusion[3]} of {sum(confusion)} test images" in capsys.readouterr().out


def test_poses_are_written_as_features(here: Path, capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    run = only_run("dynamic")
    capsbench("analyze", "poses", f"run={run}")
    assert (
        "360 test images, 172 columns: label, predicted, activation 0 …, pose 0 0 … pose 9 15"
        in capsys.readouterr().out
    )
    with np.load(run / "poses.npz", allow_pickle=False) as file:
        arrays = dict(file)
    data = Digits()
    data.setup()
    images, labels = data.splits["test"]
    answer = load(run).predict(images)
    assert arrays["label"].tolist() == [str(label) for label in labels.tolist()]
    assert arrays["columns"][[0, 10, 26]].tolist() == ["activation 0", "pose 0 0", "pose 1 0"]
    assert np.allclose(arrays["features"][:, 10:], answer.poses.flatten(1), atol=1e-5)
    assert np.allclose(arrays["features"][:, :10], answer.scores, atol=1e-5)


def test_poses_as_parquet(here: Path, capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow is no package of developers: with it pandas keeps texts in another way, in every command."""
    monkeypatch.setattr("capsbench.commands.analyze.find_spec", lambda name: name == "pyarrow")
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda table, path, **options: table.to_pickle(path))
    run = only_run("dynamic")
    capsbench("analyze", "poses", f"run={run}", "format=parquet")
    table = pd.read_pickle(run / "poses.parquet")
    assert table.columns[:3].tolist() == ["label", "predicted", "activation 0"]
    assert table.shape == (360, 172)
    assert set(table["label"]) == set(map(str, range(10)))

    monkeypatch.setattr("capsbench.commands.analyze.find_spec", lambda name: None)
    said = says(capsbench, "poses", f"run={run}", "format=parquet")
    assert said == "error: pyarrow is not installed: pip install 'capsbench[parquet]'"
    assert "format must be one of npz, parquet, got csv" in says(capsbench, "poses", "run=outputs", "format=csv")
