"""`capsbench predict` says what pictures show."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data.preparation import Preparation
from capsbench.inference import Description, save
from capsbench.models import CapsNet
from capsbench.routing import FMAgreement

Command = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    description = Description(
        arch={"_target_": "capsbench.models.CapsNet", "filters": 8, "groups": 2},
        router={"_target_": "capsbench.routing.FMAgreement"},
        preparation=Preparation((1, 20, 24)),
        class_names=("[b]cat", "score"),
    )
    torch.manual_seed(0)
    save(description, CapsNet((1, 20, 24), 2, FMAgreement, filters=8, groups=2), folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    generator = np.random.default_rng(0)
    for name in ("2.png", "10.PNG", "deeper/1.jpg", ".hidden/3.png", "__MACOSX/4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        size = (20, 24) if name == "2.png" else (30, 30, 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    (folder / "Thumbs.db").write_bytes(b"0")
    return folder


def test_a_folder_of_pictures(
    capsbench: Command, run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("predict", f"run={run}", "images=pictures", "csv=answers.csv", "sheet=answers.png")
    told = capsys.readouterr().out
    assert "2 of 3 pictures had another size and were made 24×20: fit=stretch" in told
    assert "2 of 3 pictures were in colour; the network sees grey" in told
    assert told.index("2.png") < told.index("10.PNG") < told.index("1.jpg")
    with (tmp_path / "answers.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["picture"] for row in rows] == ["pictures/2.png", "pictures/10.PNG", "pictures/deeper/1.jpg"]
    for row in rows:
        assert row["predicted"] == max(("[b]cat", "score"), key=lambda name: float(row[f"score of {name}"]))
        assert row["predicted"] in told
    with Image.open(tmp_path / "answers.png") as sheet:
        assert min(sheet.size) > 100


def test_one_picture_and_a_list(
    capsbench: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("predict", f"run={run}", "images=pictures/2.png")
    assert "had another size" not in capsys.readouterr().out
    capsbench("predict", f"run={run}", "images=[pictures/2.png,pictures/10.PNG]", "fit=crop")
    assert "1 of 2 pictures had another size and were made 24×20: fit=crop" in capsys.readouterr().out


def test_one_unreadable_picture_does_not_hide_the_others(
    capsbench: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "3.png").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        capsbench("predict", f"run={run}", "images=pictures")
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "10.PNG" in told.out
    assert "error: 1 of 4 pictures could not be read; the first: pictures/3.png is not a picture" in told.err


def test_no_picture_of_a_folder_can_be_read(
    capsbench: Command, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        capsbench("predict", f"run={run}", "images=bad", "csv=a.csv")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: none of 1 pictures could be read; the first: bad/1.png is not")


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ([], "run must be given", 2),
        (["run=run"], "images must be given", 2),
        (["run=run", "images=nowhere.png"], "nowhere.png does not exist", 1),
        (["run=run", "images=empty"], "empty holds no pictures, files that end with .png", 1),
        (["run=empty", "images=pictures"], "empty has no model.json; name the folder of a finished run", 2),
        (["run=run", "images=pictures", "fit=bend"], "fit must be one of stretch, crop, pad, got bend", 2),
        (["run=run", "images=pictures", "csv=nowhere/a.csv"], "nowhere/a.csv could not be written", 1),
    ],
)
def test_what_is_refused(
    capsbench: Command,
    run: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
    code: int,
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        capsbench("predict", *words)
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def test_a_router_of_ones_own(
    capsbench: Command, run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "router").mkdir(parents=True)
    (tmp_path / "conf" / "router" / "mine.yaml").write_text("_target_: my_own_router.Mine\n_partial_: true\n")
    (tmp_path / "my_own_router.py").write_text(
        "from capsbench.routing import FMAgreement\n\n\nclass Mine(FMAgreement): ...\n"
    )
    text = (run / "model.json").read_text().replace("capsbench.routing.FMAgreement", "my_own_router.Mine")
    (run / "model.json").write_text(text)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(SystemExit) as ended:
        capsbench("predict", f"run={run}", "images=pictures")
    assert "my_own_router.Mine is no network or router of capsbench" in str(ended.value)
    capsbench("predict", f"run={run}", "images=pictures", "--config-dir", "conf")
