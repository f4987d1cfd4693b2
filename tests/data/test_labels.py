"""Labels of arrays: one for each image, or any number."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.data import Arrays, DataError
from capsbench.data.batch import LabelledImages
from capsbench.data.labels import most_frequent, read_labels

PLACE = Path("x.npz")
ROWS = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]])
ONE_HOT = np.eye(3, dtype=int)[[0, 1, 2, 1]]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_rows_with_several_ones_or_none_are_labels_of_any_number(kind: type) -> None:
    found = read_labels({"train": ROWS.astype(kind), "test": ONE_HOT.astype(kind)}, PLACE)
    assert (found.several, found.num_classes, found.names) == (True, 3, None)
    assert found.of["train"].dtype == bool
    assert found.of["train"].tolist() == (ROWS == 1).tolist()
    assert found.of["test"].tolist() == (ONE_HOT == 1).tolist()


def test_one_row_in_any_split_is_enough() -> None:
    assert read_labels({"train": ONE_HOT, "test": ROWS}, PLACE).several
    alike = read_labels({"train": ONE_HOT, "test": np.array([0, 2])}, PLACE)
    assert (alike.several, alike.of["train"].tolist(), alike.of["test"].tolist()) == (False, [0, 1, 2, 1], [0, 2])


def test_a_column_that_no_training_image_has_is_no_class(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = read_labels({"train": np.insert(ROWS, 1, 0, axis=1)}, PLACE)
    assert found.names == ["0", "2", "3"]
    assert found.of["train"].tolist() == (ROWS == 1).tolist()
    assert "its 3 classes are 0, 2, 3" in caplog.text


def test_to_measure_a_network_on_every_column_is_a_class() -> None:
    wide = np.insert(ROWS, 1, 0, axis=1)
    found = read_labels({"train": wide * 0, "test": wide}, PLACE, measured=True)
    assert (found.num_classes, found.names, found.of["test"].tolist()) == (4, None, (wide == 1).tolist())
    found = read_labels({"train": ONE_HOT[:1], "test": ONE_HOT[1:2]}, PLACE, measured=True)
    assert (found.num_classes, found.names, found.of["test"].tolist()) == (3, None, [1])
    found = read_labels({"train": np.array(["a", "a"]), "test": np.array(["b"])}, PLACE, measured=True)
    assert (found.names, found.of["test"].tolist()) == (["a", "b"], [1])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": ROWS * 2}, "rows of labels must be of 0 and 1, the train split has other numbers"),
        (
            {"train": ROWS, "test": np.array([0, 1])},
            "labels of the train split are rows of 0 and 1, several of an image, those of the test split are not",
        ),
        ({"train": ROWS, "test": ROWS[:, :2]}, "have 3 columns to train on, 2 in test"),
        ({"train": ROWS * [1, 0, 1], "test": ROWS}, "the test split has a label that the train split has not, 1"),
        ({"train": np.ones((4, 2))}, "all images have the same labels"),
        ({"train": np.zeros((4, 2))}, "all images have the same labels"),
        ({"train": ROWS * [0, 1, 0]}, "or one class only; there must be at least two"),
    ],
)
def test_labels_that_cannot_be_meant(arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        read_labels(arrays, PLACE)
    assert "\n" not in str(refused.value)


def several(counts: Mapping[Any, int]) -> LabelledImages:
    labels = torch.tensor([row for row, count in counts.items() for _ in range(count)], dtype=torch.bool)
    return LabelledImages(torch.arange(len(labels)).reshape(-1, 1, 1, 1), labels)


def test_sets_of_labels_keep_their_proportion_and_rare_ones_do_not_matter() -> None:
    rare = {(1, 0, 1, bit) for bit in (0, 1)}
    whole = several({(0, 0, 0, 0): 40, (1, 1, 0, 0): 20, (0, 1, 1, 0): 30} | dict.fromkeys(rare, 1))
    for sizes in ({"second": 0.2}, {"second": 18}, {"first": 74}):
        train, test = whole.divide(**sizes)
        assert len(train.labels) + len(test.labels) == 92
        found = {
            tuple(row.int().tolist()): int(count)
            for row, count in zip(*torch.unique(test.labels, dim=0, return_counts=True), strict=True)
        }
        assert [found[row] for row in ((1, 1, 0, 0), (0, 1, 1, 0))] == pytest.approx([4, 6], abs=1)
        assert torch.equal(whole.divide(**sizes)[1].images, test.images)


def test_where_every_set_is_rare_the_division_is_plain() -> None:
    whole = several({tuple(map(int, f"{number:04b}")): 1 for number in range(16)})
    first, second = whole.divide(second=4)
    assert (len(first.labels), len(second.labels)) == (12, 4)


def test_the_share_of_the_most_frequent_set() -> None:
    assert most_frequent(several({(0, 0): 3, (1, 1): 5}).labels) == 5 / 8
    assert most_frequent(torch.tensor([0, 1])) is None


def test_a_set_of_arrays_is_divided_and_held_out(tmp_path: Path) -> None:
    labels = np.array([[0, 0], [1, 0], [1, 1]])[np.arange(60) % 3]
    np.savez(tmp_path / "x.npz", images=np.zeros((60, 8, 8), np.uint8), labels=labels)
    data = Arrays(path=tmp_path / "x.npz", val_fraction=0.25)
    data.setup()
    assert (data.labels_per_image, data.num_classes, data.names) == (None, 2, ["0", "1"])
    assert {split: data.splits[split].labels.sum(dim=0).tolist() for split in ("train", "val", "test")} == {
        "train": [24, 12],
        "val": [8, 4],
        "test": [8, 4],
    }
    assert data.showcase(3)["x"].labels.shape == (3, 2)
    assert data.remarks() == [
        "training images of each class: 0 24, 1 12",
        "any number of labels: 0 to 2 an image, 1.00 in the mean; 33.3 % have none",
    ]
    np.savez(tmp_path / "x.npz", images=np.zeros((60, 8, 8), np.uint8), labels=np.arange(60) % 12)
    data = Arrays(path=tmp_path / "x.npz")
    data.setup()
    assert data.remarks() == [f"training images of each class: {', '.join(f'{number} 4' for number in range(10))}, …"]
