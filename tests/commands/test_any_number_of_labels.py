"""Images with any number of labels, from the arrays to the answers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import capsbench as package

Command = Callable[..., Path]


@pytest.fixture
def digits(tmp_path: Path) -> np.ndarray:
    """Writes attributes.npz: whether a digit is even, above 4, and has a loop; returns the images."""
    found = load_digits()
    images = (found.images * 255 / 16).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    labels = np.stack([found.target % 2 == 0, found.target > 4, np.isin(found.target, (0, 6, 8, 9))], axis=1)
    np.savez(tmp_path / "attributes.npz", images=images, labels=labels)
    return images


ASKED: tuple[str, ...] = ("data=arrays", "data.path=attributes.npz", "data.subset=400", "data.test_subset=200")
ASKED += ("arch=capsnet_light", "arch.filters=8", "arch.groups=2", "optim.optimizer.lr=0.01")


def test_from_arrays_to_answers(
    capsbench: Command, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = capsbench("train", *ASKED, "trainer.max_epochs=3", "data.batch_size=50")
    folder = next(outputs.rglob("result.json")).parent
    told = capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    measured = {name: 100 * result["metrics"][f"test/{name}"] for name in ("exact_match", "f1", "map")}
    said = "test exact match {exact_match:.2f} %, F1 {f1:.2f} %, mAP {map:.2f} %".format(**measured)
    assert told.count(said) == 2  # of the last epoch, and of the run
    assert "test/accuracy" not in result["metrics"]
    assert measured["exact_match"] > 30 > 100 * result["most_frequent_labels"]
    assert [sum(row.values()) - row["average_precision"] for row in result["by_label"]["test"]] == [200] * 3
    with (folder / "metrics.csv").open() as stream:
        assert {"test/exact_match", "test/f1", "test/map", "train/f1"} <= set(next(csv.reader(stream)))

    capsbench("status", "experiment=adhoc", *ASKED, "trainer.max_epochs=3", "data.batch_size=50")
    assert "exact match" in " ".join(capsys.readouterr().out.split())
    capsbench("evaluate", f"run={folder}", "split=test")
    assert said in capsys.readouterr().out
    capsbench("report", "experiment=adhoc")
    assert "exact match %" in " ".join(capsys.readouterr().out.split())
    page = (outputs / "adhoc" / "report.html").read_text()
    assert "Each label by itself" in page
    assert "Test exact match" in page

    (tmp_path / "new").mkdir()
    (tmp_path / "attributes.npz").rename(tmp_path / "new" / "attributes.npz")
    shown = ("data=arrays", "data.path=new/attributes.npz", "data.subset=400", "data.test_subset=200")
    capsbench("evaluate", f"run={folder}", *shown, "split=test")
    assert "attributes, test: exact match {exact_match:.2f} % [".format(**measured) in (told := capsys.readouterr().out)
    assert ", F1 {f1:.2f} %, mAP {map:.2f} %".format(**measured) in told
    record = json.loads((folder / "evaluation-attributes-test.json").read_text())
    for name in ("exact_match", "f1", "map"):
        assert record[name] == pytest.approx(result["metrics"][f"test/{name}"])
    assert "accuracy" not in record
    (tmp_path / "new" / "attributes.npz").rename(tmp_path / "attributes.npz")

    Image.fromarray(digits[0]).save(tmp_path / "zero.png")
    capsbench("predict", f"run={folder}", "images=zero.png", "csv=answers.csv", "sheet=answers.png")
    assert "any number of classes: those with an activation above 0.5" in capsys.readouterr().out
    predictions = package.load(folder).predict("zero.png")
    with (tmp_path / "answers.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["predicted"] == ", ".join(predictions.names[0])
    above = {name for name in "012" if float(row[f"score of {name}"]) > 0.5}
    assert set(predictions.names[0]) == above
    capsbench("data", "show", "data=arrays", "data.path=attributes.npz")
    assert (outputs / "data" / "arrays.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loss=cross_entropy"], "this loss takes one label for each image, got any number; use loss=margin"),
        (["decoder=dense"], "these images have any number; use decoder=none"),
        (["data.class_weights=balanced"], "weighs an image by its one class"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    capsbench: Command, digits: np.ndarray, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        capsbench("train", *ASKED, "trainer=smoke", *words)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_weights_of_classes_are_told(capsbench: Command) -> None:
    asked = ("data=digits", "trainer=smoke", "arch=capsnet_light", "arch.filters=8", "arch.groups=2")
    outputs = capsbench("train", "-m", *asked, "data.class_weights=null,balanced,[1,1,1,1,1,1,1,1,1,2]")
    results = [json.loads(path.read_text()) for path in outputs.rglob("result.json")]
    found = {str(result["settings"]["data"]["class_weights"]): result["class_weights"] for result in results}
    assert set(found) == {"None", "balanced", str([1] * 9 + [2])}
    assert found["None"] == []
    assert found[str([1] * 9 + [2])] == [1] * 9 + [2]
    assert found["balanced"] != [1] * 10


def test_other_data_may_know_fewer_labels_and_show_one_each(capsbench: Command, digits: np.ndarray) -> None:
    outputs = capsbench("train", *ASKED, "trainer.max_steps=20", "data.batch_size=50")
    folder = next(outputs.rglob("result.json")).parent
    np.savez("fewer.npz", images=digits[:100], labels=np.eye(2, dtype=bool)[np.arange(100) % 2])
    capsbench("evaluate", f"run={folder}", "data=arrays", "data.path=fewer.npz", "split=all")
    record = json.loads((folder / "evaluation-fewer-all.json").read_text())
    answers = package.load(folder).predict(list(digits[:100])).labels[:, :2].numpy()
    assert record["examples"] == 100
    assert record["exact_match"] == (answers == np.eye(2, dtype=bool)[np.arange(100) % 2]).all(axis=1).mean()


def test_a_callback_that_watches_the_accuracy_is_refused_before_training(
    capsbench: Command, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        capsbench("train", *ASKED, "data.val_fraction=0.2", "callbacks=best_checkpoint", "trainer.max_epochs=1")
    assert str(ended.value) == (
        "error: ModelCheckpoint watches val/accuracy, which is not measured of these labels; set its monitor to "
        "val/exact_match or val/f1 or val/map"
    )
    assert "epoch 1" not in capsys.readouterr().out


def test_a_label_that_no_image_shows_may_be_predicted_and_is_then_wrong(
    capsbench: Command, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = capsbench("train", *ASKED, "trainer.max_steps=20", "data.batch_size=50")
    folder = next(outputs.rglob("result.json")).parent
    answers = package.load(folder).predict(list(digits[:100])).labels.numpy()
    labels = answers.copy()
    often = int(answers.sum(axis=0).argmax())
    assert answers[:, often].any()
    labels[:, often] = False
    np.savez("never.npz", images=digits[:100], labels=np.append(labels, np.zeros((100, 1), bool), axis=1))
    capsbench("evaluate", f"run={folder}", "data=arrays", "data.path=never.npz", "split=all")
    record = json.loads((folder / "evaluation-never-all.json").read_text())
    assert record["exact_match"] == (~answers[:, often]).mean()
    assert record["labels"] == ["0", "1", "2"]  # the network does not know a fourth, which no image shows
    assert "; labels measured: 0, 1, 2" in capsys.readouterr().out
