"""affNIST's official files, written as MATLAB writes them."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from capsbench.data import AffNIST, DataError, LabelledImages
from capsbench.data.files import FileSet
from capsbench.data.sets.affnist_files import find_official, read_official
from capsbench.data.sources import AFFNIST


def write_official(path: Path, **changes: np.ndarray) -> None:
    fields = {
        "image": np.zeros((1600, 3), dtype=np.uint8),
        "label_int": np.array([[7, 2, 1]], dtype=np.uint8),
        "human_readable_transform": np.zeros((6, 3)),
    }
    fields["image"][41, 1] = 9  # second image: row 1, column 1
    scipy.io.savemat(path, {"affNISTdata": fields | changes}, do_compression=True)


def test_official_file(tmp_path: Path) -> None:
    write_official(tmp_path / "test.mat")
    images, labels = read_official([tmp_path / "test.mat"])
    assert images.shape == (3, 1, 40, 40)
    assert images[1, 0, 1, 1] == 9
    assert images.sum() == 9
    assert labels.tolist() == [7, 2, 1]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.uint8, np.int32])
def test_labels_may_be_of_any_type(tmp_path: Path, kind: type[np.generic]) -> None:
    write_official(tmp_path / "test.mat", label_int=np.array([[7, 2, 1]], dtype=kind))
    labels = read_official([tmp_path / "test.mat"]).labels
    assert labels.dtype == torch.int64
    assert labels.tolist() == [7, 2, 1]


def test_parts_in_place_of_the_file_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Each part has one image: its number as a pixel."""
    folder = tmp_path / "affnist" / "test_batches"
    folder.mkdir(parents=True)
    for number in range(1, 33):
        image = np.full((1600, 1), number, dtype=np.uint8)
        write_official(
            folder / f"{number}.mat",
            image=image,
            label_int=np.array([[number % 10]], dtype=np.float64),
            human_readable_transform=np.full((6, 1), number - 20.0),
        )
    assert AFFNIST.find(tmp_path) == tmp_path / "affnist"
    found = read_official(find_official(tmp_path / "affnist"))
    assert found.images[:, 0, 0, 0].tolist() == list(range(1, 33))
    assert found.labels.tolist() == [number % 10 for number in range(1, 33)]
    assert found.info[:, 5].tolist() == [number - 20.0 for number in range(1, 33)]
    (folder / "17.mat").unlink()
    assert AFFNIST.find(tmp_path) is None


class ThreeImages(AffNIST):
    """Three images of the official file, and no digits to train on but the stand-ins."""

    digits = FileSet("mnist", ())

    def load(self, split: str) -> LabelledImages:
        return self.stand_in("train") if split == "train" else read_official(find_official(self._fetch_official()))


def test_parts_by_place_follow_the_files_last_two_numbers(tmp_path: Path) -> None:
    (tmp_path / "affnist").mkdir()
    transform = np.array([[9.0, 9, 9, 9, 6, -6], [0, 0, 1, 1, 6.01, 0], [0, 0, 1, 1, 0, -7]]).T
    write_official(tmp_path / "affnist" / "test.mat", human_readable_transform=transform)
    data = ThreeImages(data_dir=tmp_path)
    data.setup()
    assert data.parts("test")["trained_places"].tolist() == [True, False, False]
    assert data.parts("test")["other_places"].tolist() == [False, True, True]


def test_the_ranges_of_the_transformations_are_told(tmp_path: Path) -> None:
    (tmp_path / "affnist").mkdir()
    transform = np.array([[-20.0, 0, 1, 1, 6, -6], [20, 0, 0.8, 1.2, -6, 4.5], [0, 0.2, 1, 1, 0, 0]]).T
    write_official(tmp_path / "affnist" / "test.mat", human_readable_transform=transform)
    data = ThreeImages(data_dir=tmp_path)
    data.setup()
    assert data.remarks() == [
        "human_readable_transform, row 1: -20 to 20",
        "human_readable_transform, row 2: 0 to 0.2",
        "human_readable_transform, row 3: 0.8 to 1",
        "human_readable_transform, row 4: 1 to 1.2",
        "human_readable_transform, row 5: -6 to 6",
        "human_readable_transform, row 6: -6 to 4.5",
    ]


def test_a_file_without_transformations_has_no_parts(tmp_path: Path) -> None:
    (tmp_path / "affnist").mkdir()
    fields = {"image": np.zeros((1600, 3), dtype=np.uint8), "label_int": np.array([[7, 2, 1]])}
    scipy.io.savemat(tmp_path / "affnist" / "test.mat", {"affNISTdata": fields})
    data = ThreeImages(data_dir=tmp_path)
    data.setup()
    assert data.num_examples("test") == 3
    assert not data.parts("test")
    assert data.remarks() == ("the test images come without their transformations",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_int": np.array([[7, 2]], dtype=np.uint8)}, "3 images but 2 labels"),
        ({"label_int": np.array([[7, 2, 11]], dtype=np.uint8)}, "labels must be whole numbers from 0 to 9, found 11"),
        ({"label_int": np.array([[7, 2.5, 1]])}, "labels must be whole numbers from 0 to 9, found 2.5"),
        (
            {"human_readable_transform": np.zeros((3, 6))},
            r"human_readable_transform must be 6 × 3 numbers, is \(3, 6\)",
        ),
        ({"image": np.zeros((784, 3), dtype=np.uint8)}, r"image must be 1600 × N bytes, is \(784, 3\)"),
        ({"image": np.zeros((1600, 3))}, "is .* of float64"),
    ],
)
def test_official_file_with_something_else_in_it(tmp_path: Path, changes: dict[str, np.ndarray], said: str) -> None:
    write_official(tmp_path / "test.mat", **changes)
    with pytest.raises(DataError, match=said):
        read_official([tmp_path / "test.mat"])


def test_another_struct_or_no_mat_at_all(tmp_path: Path) -> None:
    path = tmp_path / "test.mat"
    for write in (
        lambda: scipy.io.savemat(path, {"digits": np.zeros(3)}),
        lambda: scipy.io.savemat(path, {"affNISTdata": {"picture": np.zeros(3)}}),
        lambda: path.write_text("<html>"),
        lambda: path.write_bytes(b""),
    ):
        write()
        with pytest.raises(DataError, match="is not affNIST's file, a struct affNISTdata with image and label_int"):
            read_official([path])
