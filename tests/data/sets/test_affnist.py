"""Translated MNIST to train on, affNIST or its generator to test on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from capsbench.data import AffNIST, Augmentation, BatchKey, DataError, LabelledImages
from capsbench.data.affine import warp
from capsbench.data.files import DataFile, FileSet
from capsbench.data.sets.affnist import generate, read_official


class FourDigits(AffNIST):
    """Four patches of ink for digits."""

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        generator = torch.Generator().manual_seed(0)
        images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
        images[:, :, 4:24, 4:24] = torch.randint(1, 256, (4, 1, 20, 20), generator=generator, dtype=torch.uint8)
        digits = LabelledImages(images, torch.arange(4))
        return digits, generate(digits, self.per_digit)


@pytest.fixture
def data() -> FourDigits:
    data = FourDigits(test_source="generated", per_digit=50)
    data.setup()
    return data


def test_every_place_is_reached_and_pixels_are_exact(data: FourDigits) -> None:
    places = set()
    for epoch in range(400):
        images, labels, _ = data.batch("train", BatchKey(epoch, torch.arange(4)))
        for image, digit in zip(images, data.splits["train"].images[labels], strict=True):
            bytes_ = image.mul(255).round().byte()[0]
            row, column = (bytes_.sum(dim=axis).nonzero()[0].item() - 4 for axis in (1, 0))
            assert bytes_[row : row + 28, column : column + 28].equal(digit[0])
            assert bytes_.sum() == digit.sum()
            places.add((row, column))
    assert places == {(row, column) for row in range(13) for column in range(13)}


def test_placement_is_new_each_epoch_and_repeats(data: FourDigits) -> None:
    def images(epoch: int) -> torch.Tensor:
        return data.batch("train", BatchKey(epoch, torch.arange(4))).images

    assert images(0).equal(images(0))
    assert not images(0).equal(images(1))


def test_pinned_places(data: FourDigits) -> None:
    """Published numbers depend on these: (row, column) of each digit in two epochs."""
    found = []
    for epoch in (0, 1):
        ink = data.batch("train", BatchKey(epoch, torch.arange(4))).images[:, 0] > 0
        corners = [ink.any(dim=axis).int().argmax(dim=1) - 4 for axis in (2, 1)]
        found.append(torch.stack(corners, dim=1).tolist())
    assert found == [[[0, 3], [2, 12], [10, 9], [8, 12]], [[2, 8], [3, 3], [3, 6], [10, 9]]]


def test_digits_held_out_are_placed_too_and_stay() -> None:
    data = FourDigits(test_source="generated", per_digit=2)
    data.setup()
    data.splits["val"] = data.splits["train"]
    first, again = (data.batch("val", BatchKey(epoch, torch.arange(4))).images for epoch in (0, 5))
    assert first.shape == (4, 1, 40, 40)
    assert first.equal(again)
    assert first.mul(255).round().sum(dim=(1, 2, 3)).equal(data.splits["val"].images.sum(dim=(1, 2, 3)).float())


def test_generated_images_lose_no_ink_and_stay_the_same(data: FourDigits) -> None:
    test = data.splits["test"]
    assert test.images.shape == (200, 1, 40, 40)
    assert test.labels.bincount().tolist() == [50] * 4
    again = FourDigits(test_source="generated", per_digit=50, seed=9)
    again.setup()
    assert again.splits["test"].images.equal(test.images)
    # A patch of area 400 keeps its ink up to the scales' product; none is cut off at the border.
    area = (test.images > 0).sum(dim=(1, 2, 3)).float()
    assert 400 * 0.8**2 * 0.95 < area.min() < area.max() < 400 * 1.2**2 * 1.2


def test_generated_images_lie_all_over_the_canvas(data: FourDigits) -> None:
    rows = (data.splits["test"].images[:, 0] > 0).any(dim=2).int().argmax(dim=1)
    assert rows.min() <= 1
    assert rows.max() >= 14


def numbers(value: float) -> torch.Tensor:
    return torch.tensor([value])


def warp_one(image: torch.Tensor, **changes: float) -> torch.Tensor:
    settings = {"rotation": 0.0, "shear": 0.0, "scale_x": 1.0, "scale_y": 1.0} | changes
    return warp(image[None, None], **{name: numbers(value) for name, value in settings.items()})[0, 0]


@pytest.fixture
def bar() -> torch.Tensor:
    """A bar to the right of the centre."""
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[13:15, 14:24] = 255
    return image


def ink_center(image: torch.Tensor) -> tuple[float, float]:
    """(x to the right, y upward) of the ink's centre of mass, from the canvas's centre."""
    weights = image.double() / image.double().sum()
    steps = torch.arange(64) - 31.5
    return (weights.sum(0) @ steps.double()).item(), -(weights.sum(1) @ steps.double()).item()


def test_no_change_is_exact(bar: torch.Tensor) -> None:
    assert warp_one(bar)[18:46, 18:46].equal(bar)


def test_rotation_is_counter_clockwise(bar: torch.Tensor) -> None:
    x, y = ink_center(warp_one(bar, rotation=90.0))
    assert x == pytest.approx(0, abs=0.1)
    assert y == pytest.approx(5, abs=0.1)


def test_scale(bar: torch.Tensor) -> None:
    assert ink_center(warp_one(bar, scale_x=1.2))[0] == pytest.approx(6, abs=0.1)
    tall = warp_one(bar, scale_y=2.0)
    assert (tall > 127).any(dim=1).sum() == 4


def test_shear_moves_what_is_above_to_the_right() -> None:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[3:5, 13:15] = 255  # ten pixels above the centre
    x, y = ink_center(warp_one(image, shear=0.2))
    assert x == pytest.approx(2, abs=0.1)
    assert y == pytest.approx(10, abs=0.1)


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
    images, labels = read_official(tmp_path / "test.mat")
    assert images.shape == (3, 1, 40, 40)
    assert images[1, 0, 1, 1] == 9
    assert images.sum() == 9
    assert labels.tolist() == [7, 2, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_int": np.array([[7, 2]], dtype=np.uint8)}, "3 images but 2 labels"),
        ({"label_int": np.array([[7, 2, 11]], dtype=np.uint8)}, "labels must be from 0 to 9, found 2 to 11"),
        ({"image": np.zeros((784, 3), dtype=np.uint8)}, r"image must be 1600 × N bytes, is \(784, 3\)"),
        ({"image": np.zeros((1600, 3))}, "is .* of float64"),
    ],
)
def test_official_file_with_something_else_in_it(tmp_path: Path, changes: dict[str, np.ndarray], said: str) -> None:
    write_official(tmp_path / "test.mat", **changes)
    with pytest.raises(DataError, match=said):
        read_official(tmp_path / "test.mat")


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
            read_official(path)


def test_without_the_official_file_the_way_out_is_named(tmp_path: Path) -> None:
    missing = FileSet("affnist", (DataFile("test.mat", None, ("http://127.0.0.1:9/x.zip",), None, 1.0),))
    kind = type("Missing", (AffNIST,), {"source": missing, "digits": FileSet("mnist", ()), "__module__": __name__})
    with pytest.raises(DataError, match=r"Or test on generated images: data\.test_source=generated"):
        kind(data_dir=tmp_path).prepare_data()


def test_title_says_which_test_set() -> None:
    assert AffNIST(test_source="generated").title == "affNIST (generated)"
    assert AffNIST().title == "affNIST"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_digit": 0}, "data.per_digit must be at least 1, got 0"),
        ({"per_digit": 4}, "data.per_digit=4 has no effect with data.test_source=official; leave it out"),
        ({"test_source": "mine"}, "data.test_source must be official or generated, got mine"),
        ({"standardized": True}, "affNIST does not accept data.standardized: decoders work in"),
        ({"augmentation": Augmentation(crop_padding=4)}, "affNIST does not accept data.augmentation: its digits are"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AffNIST(**options)


def test_real_digits(shared: Path) -> None:
    data = AffNIST(data_dir=shared / "data", test_source="generated", per_digit=1)
    data.prepare_data()
    data.setup()
    assert data.num_examples("train") == 60_000
    assert data.splits["test"].images.shape == (10_000, 1, 40, 40)
