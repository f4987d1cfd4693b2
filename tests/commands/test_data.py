"""`capsbench data`, as typed, and what it says about data to train on."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., None]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "mine.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(40) % 4)
    return path


def test_list_names_every_set(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("data", "list")
    shown = capsys.readouterr().out
    for name in ("affnist", "cifar10", "digits", "fashion_mnist", "mnist", "multi_mnist", "small_norb", "svhn"):
        assert name in shown


def test_check_what_is_here(capsbench: Run, capsys: pytest.CaptureFixture[str], arrays: Path) -> None:
    capsbench("data", "check", "data=digits")
    assert capsys.readouterr().out == "digits: complete, 1,437 to train, 360 to test\n"
    capsbench("data", "check", "data=affnist", "data.absent=stand_in", "data.test_source=generated", "data.placement=5")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "affnist: complete, 512 to train, 256 to test"
    assert "  shift_x: -5 to 5" in said
    capsbench("data", "check", "data=arrays", f"data.path={arrays}")
    said = capsys.readouterr().out.splitlines()
    assert said == ["arrays: complete, 32 to train, 8 to test", "  training images of each class: 0 8, 1 8, 2 8, 3 8"]


def test_what_must_be_downloaded_is_not_here(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("data", "list", "data=cifar10_jpeg,digits", "data_dir=nowhere")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert {row[1]: row[3] for row in rows}.items() >= {"cifar10_jpeg": "no", "digits": "yes"}.items()


def test_check_of_something_damaged_fails(capsbench: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_text("<html>")
    with pytest.raises(SystemExit) as error:
        capsbench("data", "check", "data=arrays", "data.path=bad.npz")
    assert str(error.value) == "error: check failed for arrays"
    assert "arrays: data.path=bad.npz is not a readable .npz file" in capsys.readouterr().err


def test_show_draws_a_picture(capsbench: Run, arrays: Path) -> None:
    capsbench("data", "show", "data=arrays", f"data.path={arrays}", "data.augmentation.crop_padding=2")
    with Image.open("outputs/data/arrays.png") as sheet:
        assert sheet.size == (1200, 624)
        assert len(sheet.convert("L").getcolors(256) or range(257)) > 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fetch", "data=mnst"], "error: there is no data set mnst; did you mean mnist"),
        (["fetch"], "error: capsbench data fetch needs data=NAME; there are:"),
        (["show", "data=arrays"], "error: show failed for arrays"),
    ],
)
def test_bad_input(capsbench: Run, arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as error:
        capsbench("data", *arguments)
    assert str(error.value).startswith(said)


def test_train_on_own_arrays(capsbench: Run, arrays: Path) -> None:
    capsbench("train", "data=arrays", f"data.path={arrays}", "data.batch_size=16", "trainer.max_epochs=1")
    (path,) = Path("outputs").rglob("result.json")
    result = json.loads(path.read_text())
    assert (result["data_title"], result["train_examples"], result["full"]) == ("mine", 32, True)


@pytest.mark.parametrize(
    ("settings", "examples", "measured"),
    [
        (["data.subset=100", "data.val_fraction=0.2"], (100, 0), "val"),
        (["data.test_subset=50"], (1437, 50), "test"),
    ],
)
def test_a_run_on_a_part_is_marked(
    capsbench: Run, settings: list[str], examples: tuple[int, int], measured: str
) -> None:
    capsbench("train", *settings, "trainer.max_epochs=1")
    (path,) = Path("outputs").rglob("result.json")
    result = json.loads(path.read_text())
    assert (result["train_examples"], result["test_examples"]) == examples
    assert (result["full"], result["smoke"]) == (False, False)
    assert {"val/accuracy", "test/accuracy"} & result["metrics"].keys() == {f"{measured}/accuracy"}
