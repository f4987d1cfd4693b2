"""`capsbench evaluate data=…` measures a trained network on data that need not be that of its run."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data.preparation import Preparation
from capsbench.inference import Description, load, save
from capsbench.models import CapsNet
from capsbench.routing import FMAgreement
from capsbench.runs import Result

Command = Callable[..., Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """12 of each class, of several sizes; where they are bright says what they show."""
    generator = np.random.default_rng(0)
    for name in ("cat", "[b]dog", "eel"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            side = 17 + number % 3
            pixels = generator.integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


CLASSES = ("eel", "fox", "cat", "[b]dog")
SEEN = Preparation((1, 17, 17), standardized=True, fit="pad")


def write_network(folder: Path, preparation: Preparation = SEEN, **options: Any) -> Path:
    """Write a network that was not trained."""
    description = Description(
        arch={"_target_": "capsbench.models.CapsNet", "filters": 4, "groups": 2},
        router={"_target_": "capsbench.routing.FMAgreement"},
        preparation=preparation,
        **{"class_names": CLASSES, **options},
    )
    torch.manual_seed(0)
    folder.mkdir()
    network = CapsNet(preparation.seen, len(description.class_names), FMAgreement, filters=4, groups=2)
    save(description, network, folder)
    return folder


def write_arrays(path: Path, side: int = 17, number: int = 40, **others: Any) -> np.ndarray:
    """Write images of noise that are not divided, and their labels; returns the images."""
    images = np.random.default_rng(0).integers(0, 256, (number, side, side), dtype=np.uint8)
    np.savez(path, **{"images": images, "labels": np.array(CLASSES)[np.arange(number) % 4], **others})
    return images


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A network that saw squares of 17 pixels, in another order of classes and with one more."""
    return write_network(tmp_path / "run")


def test_another_folder(capsbench: Command, run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench("evaluate", f"run={run}", "data=image_folder", f"data.path={pictures}", "split=all")
    told = capsys.readouterr().out
    classifier = load(run)
    files = sorted(pictures.rglob("*.png"))
    predicted = [classifier.predict(path).names[0][0] for path in files]
    right = sum(name == path.parent.name for name, path in zip(predicted, files, strict=True))
    written = json.loads((run / "evaluation-pictures-all.json").read_text())
    assert written["examples"] == 36
    assert written["accuracy"] == right / 36
    assert written["interval"][0] < written["accuracy"] < written["interval"][1]
    dogs = written["confusion"][3]
    assert dogs[3] == sum(name == path.parent.name == "[b]dog" for name, path in zip(predicted, files, strict=True))
    assert sum(dogs) == 12
    assert sum(written["confusion"][1]) == 0
    assert f"accuracy {100 * right / 36:.2f} %" in told
    assert "of 36" in told
    assert "[b]dog" in told
    page = (run / "evaluation-pictures-all.html").read_text()
    assert "[b]dog" in page
    assert "<script" not in page


def test_a_runs_own_data_gives_its_accuracy(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("data.standardized=true", "data.subset=64", "trainer.max_epochs=1", "arch.batch_norm_momentum=0.5")
    outputs = capsbench("train", "data=digits", *asked, "trainer.enable_progress_bar=false")
    (folder,) = (path.parent for path in outputs.rglob("result.json"))
    capsys.readouterr()
    capsbench("evaluate", f"run={outputs}", "data=digits", "data.test_subset=100")
    assert "of 100" in capsys.readouterr().out
    capsbench("evaluate", f"run={folder}", "data=digits")
    result = Result.load(folder)
    again = json.loads((folder / "evaluation-digits-test.json").read_text())
    assert again["accuracy"] == pytest.approx(result.metrics["test/accuracy"], abs=1.5 / 360)
    assert again["preparation"]["standardized"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["data=digits"],
            "images of digits have 32×32 pixels in grey, the network sees 17×17 pixels in grey; data.resize=17",
        ),
        (["data=digits", "data.resize=17"], "digits has 10 classes that the network does not know: 0, 1, 2"),
        (["data.path=x"], "data.path=x is a setting of which data? Give data=NAME"),
        (["data=digit"], "there is no data=digit; did you mean digits?"),
        (["data=digits", "data._target_=5"], "Expected a callable target, got '5'"),
        (["data=digits", "data.colour=red"], "there is no setting data.colour"),
        (["data=digits", "split=some"], "split must be one of train, val, test, all, got some"),
        (["data=digits,mnist"], "data=digits,mnist are several values; give one"),
        (["data=image_folder", "data.path=fo,ld"], "in it is quoted twice: data.path=\"'fo,ld'\""),
        (["data=multi_mnist", "data.absent=stand_in"], "images of Multi-MNIST"),
    ],
)
def test_what_is_refused(
    capsbench: Command, run: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        capsbench("evaluate", f"run={run}", *words)
    assert said in str(ended.value)
    assert "\n" not in str(ended.value)
    assert ended.value.code == 2


def test_data_that_is_not_there(capsbench: Command, run: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        capsbench("evaluate", f"run={run}", "data=arrays", "data.path=none.npz")
    assert "data.path=none.npz is not a readable .npz file" in str(ended.value)
    assert ended.value.code == 1


def test_classes_by_number(capsbench: Command, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 17, 17), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(40) % 4)
    capsbench("evaluate", f"run={run}", "data=arrays", "data.path=mine.npz", "split=all")
    told = capsys.readouterr().out
    assert "mine numbers its classes: 0 is taken for eel, 3 for [b]dog" in told
    assert json.loads((run / "evaluation-mine-all.json").read_text())["examples"] == 40


def test_images_to_train_on_are_prepared_as_in_evaluation(capsbench: Command, tmp_path: Path) -> None:
    run = write_network(tmp_path / "run", Preparation((1, 24, 24), crop=17))
    images = write_arrays(tmp_path / "mine.npz", side=24)
    capsbench("evaluate", f"run={run}", "data=arrays", "data.path=mine.npz", "split=all")
    record = json.loads((run / "evaluation-mine-all.json").read_text())
    predicted = load(run).predict(list(images)).labels[:, 0].numpy()
    assert np.array(record["confusion"]).sum(axis=0).tolist() == np.bincount(predicted, minlength=4).tolist()
    assert record["accuracy"] == (predicted == np.arange(40) % 4).mean()


def test_pictures_get_the_stored_size_before_that_of_the_network(
    capsbench: Command, pictures: Path, tmp_path: Path
) -> None:
    seen = Preparation((1, 40, 40), resize=20, crop=17)
    run = write_network(tmp_path / "run", seen)
    capsbench("evaluate", f"run={run}", "data=image_folder", f"data.path={pictures}", "split=all")
    record = json.loads((run / "evaluation-pictures-all.json").read_text())
    taken = [
        list(CLASSES).index(name) for ((name,),) in [load(run).predict(path).names for path in pictures.rglob("*.png")]
    ]
    assert np.array(record["confusion"]).sum(axis=0).tolist() == np.bincount(taken, minlength=4).tolist()
    assert record["preparation"] == {**asdict(seen), "shape": [1, 40, 40]}


def test_images_of_another_size_are_not_cropped_as_they_are(
    capsbench: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_network(tmp_path / "run", Preparation((1, 24, 24), crop=17))
    write_arrays(tmp_path / "mine.npz", side=48)
    asked = ("evaluate", f"run={run}", "data=arrays", "data.path=mine.npz", "split=all")
    with pytest.raises(SystemExit) as ended:
        capsbench(*asked)
    assert str(ended.value) == (
        f"error: {run}: images of mine have 48×48 pixels in grey, the network sees the middle of 24×24 pixels in grey; "
        "data.resize=24 changes their size"
    )
    capsbench(*asked, "data.resize=24")
    assert "of 40" in capsys.readouterr().out


def test_a_companion_is_measured_in_the_same_way(
    capsbench: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"class_names": tuple("0123456789"), "labels_per_image": None, "scores": "activations"}
    run = write_network(tmp_path / "run", Preparation((1, 40, 40)), **options)
    capsbench("evaluate", f"run={run}", "data=affnist", "data.absent=stand_in")
    told = capsys.readouterr().out
    assert "translated: exact match" in told
    assert "accuracy" not in told


def test_a_network_that_cannot_be_read_is_left_out(
    capsbench: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arrays(tmp_path / "mine.npz")
    (tmp_path / "runs").mkdir()
    first, second, third = (write_network(tmp_path / "runs" / name) for name in "abc")
    for run in (first, second, third):
        (run / "config.yaml").touch()
        (run / "result.json").touch()
    (second / "model.safetensors").write_text("nothing")
    with pytest.raises(SystemExit) as ended:
        capsbench("evaluate", "run=runs", "data=arrays", "data.path=mine.npz")
    assert ended.value.code == 1
    assert "1 of 3 runs were left out" in str(ended.value)
    assert "left out: runs/b/model.safetensors is damaged" in capsys.readouterr().out
    for run in (first, third):
        assert (run / "evaluation-mine-test.json").is_file()


def test_few_images_of_one_class(capsbench: Command, run: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (pictures / "cat").rename(tmp_path / "few" / "cat")
    capsbench("evaluate", f"run={run}", "data=image_folder", "data.path=few", "split=all")
    assert json.loads((run / "evaluation-few-all.json").read_text())["examples"] == 12
    write_arrays(tmp_path / "one.npz", number=1)
    capsbench("evaluate", f"run={run}", "data=arrays", "data.path=one.npz", "split=all")
    assert json.loads((run / "evaluation-one-all.json").read_text())["examples"] == 1


def test_a_path_with_a_comma(capsbench: Command, run: Path, pictures: Path) -> None:
    pictures.rename(pictures.with_name("pict,ures"))
    capsbench("evaluate", f"run={run}", "data=image_folder", "data.path='pict,ures'", "split=all")
    assert (run / "evaluation-pict-ures-all.json").is_file()


def test_data_of_the_same_name_replaces_nothing(capsbench: Command, run: Path, tmp_path: Path) -> None:
    for number, year in enumerate(("2024", "2025")):
        (tmp_path / year).mkdir()
        write_arrays(tmp_path / year / "mine.npz", number=40 + number)
    asked = ("evaluate", f"run={run}", "data=arrays", "split=all")
    capsbench(*asked, "data.path=2024/mine.npz")
    with pytest.raises(SystemExit) as ended:
        capsbench(*asked, "data.path=2025/mine.npz")
    assert "evaluation-mine-all.json is of " in str(ended.value)
    assert "2024/mine.npz; give this data another name, data.title=NAME, or remove that file" in str(ended.value)
    assert json.loads((run / "evaluation-mine-all.json").read_text())["examples"] == 40
    capsbench(*asked, "data.path=2025/mine.npz", "data.title=newer")
    assert json.loads((run / "evaluation-newer-all.json").read_text())["examples"] == 41
    capsbench(*asked, f"data.path={tmp_path}/2024/mine.npz")
