"""Your own images from a file of arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from capsbench.data import Arrays, DataError
from capsbench.data.digest import contents_of
from capsbench.data.own_files import own_files

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 9, 11, 3), dtype=np.uint8)
LABELS = np.arange(20) % 4


def test_arrays_already_divided(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=IMAGES[:5],
        test_labels=LABELS[:5],
    )
    data = Arrays(path=tmp_path / "x.npz")
    assert (data.image_shape, data.num_classes, data.title) == ((3, 9, 11), 4, "x")
    data.setup()
    assert torch.equal(data.splits["train"].images[7], torch.from_numpy(IMAGES[7]).permute(2, 0, 1))
    assert data.splits["test"].labels.tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(ValueError, match=r"data\.test_fraction=0\.5 has no effect: .*x\.npz is already divided"):
        Arrays(path=tmp_path / "x.npz", test_fraction=0.5)


def test_arrays_to_be_divided(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES[..., 0], labels=LABELS)
    data = Arrays(path=tmp_path / "x.npz")
    assert data.image_shape == (1, 9, 11)
    data.setup()
    assert data.splits["train"].labels.bincount().tolist() == [4] * 4
    assert data.splits["test"].labels.bincount().tolist() == [1] * 4


@pytest.mark.parametrize("twice", ["train", "test"])
def test_two_names_of_one_split_are_refused(tmp_path: Path, twice: str) -> None:
    pairs = {
        f"{split}_{part}": each
        for split in ("train", "test")
        for part, each in (("images", IMAGES), ("labels", LABELS))
    }
    np.savez(tmp_path / "x.npz", **pairs, **{f"x_{twice}": IMAGES, f"y_{twice}": LABELS})
    with pytest.raises(DataError, match=rf"has both {twice}_images and x_{twice}; remove one of them"):
        Arrays(path=tmp_path / "x.npz")


def test_images_to_measure_a_network_on_are_not_divided(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", images=IMAGES[:3], labels=np.arange(3))
    with pytest.raises(DataError, match=r"with data\.test_fraction=0\.2: .*; give another$"):
        Arrays(path=tmp_path / "few.npz")
    with pytest.raises(DataError, match=r"; give another, or split=all, which divides nothing$"):
        Arrays(path=tmp_path / "few.npz", measured="test")
    data = Arrays(path=tmp_path / "few.npz", measured="all")
    data.setup()
    assert {split: data.num_examples(split) for split in data.splits} == {"train": 3, "test": 0}
    several = {
        f"{name}_{split}": each[:5]
        for split in ("train", "val", "test")
        for name, each in (("x", IMAGES), ("y", LABELS))
    }
    np.savez(tmp_path / "x.npz", **several)
    data = Arrays(path=tmp_path / "x.npz", measured="all")
    data.setup()
    assert {split: data.num_examples(split) for split in data.splits} == {"train": 5, "val": 5, "test": 5}


def first(images: np.ndarray, folder: Path, **options: Any) -> torch.Tensor:
    """The images of an undivided set, in their order."""
    np.savez(folder / "x.npz", x=images, y=np.arange(len(images)) % 2)
    data = Arrays(path=folder / "x.npz", **options)
    data.setup()
    both = torch.cat([data.splits["train"].images, data.splits["test"].images]).float()
    order = both.flatten(1).sum(dim=1).argsort()
    return both[order]


def test_what_images_may_be(tmp_path: Path) -> None:
    """However the same pictures are stored, they are the same."""
    grey = np.arange(20, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(9, 2) * 12
    colour = grey[..., None].repeat(3, 3)
    colour[..., 1] //= 2
    for same, expected in (
        ([grey, grey[..., None], grey[:, None], grey / 255, grey.astype(np.uint16) * 257], grey[:, None]),
        ([colour, colour.transpose(0, 3, 1, 2), (colour / 255).astype(np.float32)], colour.transpose(0, 3, 1, 2)),
    ):
        for images in same:
            assert torch.allclose(first(images, tmp_path), torch.from_numpy(expected).float(), atol=1e-3)
    assert torch.equal(first(grey > 100, tmp_path).unique(), torch.tensor([0.0, 255.0]))
    shifted = first(grey.astype(np.int16) - 100, tmp_path, value_range=[-100, 155])
    assert torch.allclose(shifted, torch.from_numpy(grey[:, None]).float(), atol=1e-3)
    wide = np.zeros((20, 8, 9, 7), np.uint8)
    assert first(wide, tmp_path, layout="NHWC").shape == (20, 7, 8, 9)
    assert first(wide, tmp_path, layout="NCHW").shape == (20, 8, 9, 7)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, None),
        (LABELS[:, None], None),
        (LABELS.astype(float), None),
        (np.eye(4)[LABELS], None),
        (np.eye(4, dtype=bool)[LABELS], None),
        (LABELS * 5 - 5, ["-5", "0", "5", "10"]),
        (np.array(["b10", "a", "b2", "c"])[LABELS], ["a", "b2", "b10", "c"]),
        (np.array(["ä", "b"])[LABELS % 2], ["b", "ä"]),
        (np.array([b"x", b"y"])[LABELS % 2], ["x", "y"]),
    ],
)
def test_what_labels_may_be(tmp_path: Path, labels: np.ndarray, names: list[str] | None) -> None:
    images = np.arange(20, dtype=np.uint8)[:, None, None].repeat(9, 1).repeat(9, 2)
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    data = Arrays(path=tmp_path / "x.npz")
    data.setup()
    assert data.class_names == names
    assert data.num_classes == len(names or range(4))
    one_of_each = labels.argmax(axis=1) if labels.shape[1:] == (4,) else labels.reshape(-1)
    for split in data.splits.values():
        for image, label in zip(split.images[:, 0, 0, 0].tolist(), split.labels.tolist(), strict=True):
            given = one_of_each[image]
            assert data.names[label] == (given.decode() if isinstance(given, bytes) else str(given).removesuffix(".0"))


@pytest.mark.parametrize("named", ["{0}_images {0}_labels", "x_{0} y_{0}", "X_{0} y_{0}"])
@pytest.mark.parametrize("form", ["npz", "npy"])
def test_names_of_other_tools(tmp_path: Path, named: str, form: str) -> None:
    """Keras has x_train, MedMNIST train_images; each may be a file of its own."""
    arrays = {}
    for split, number in (("train", 12), ("val", 5), ("test", 3)):
        images, labels = named.format(split).split()
        arrays |= {images: IMAGES[:number], labels: LABELS[:number, None] % 2}
    if form == "npz":
        np.savez(tmp_path / "x.npz", other=LABELS, **arrays)
    else:
        (tmp_path / "x.npz").mkdir()
        for name, array in arrays.items():
            np.save(tmp_path / "x.npz" / f"{name}.npy", array)
    data = Arrays(path=tmp_path / "x.npz")
    data.setup()
    assert [data.num_examples(split) for split in ("train", "val", "test")] == [12, 0, 3]
    held_out = Arrays(path=tmp_path / "x.npz", val_split=True)
    held_out.setup("fit")
    assert (held_out.num_examples("val"), held_out.watched_split) == (5, "val")
    assert "test" not in held_out.splits


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": IMAGES}, "must hold images and labels, or train_images, .* it has no arrays"),
        ({"x_train": IMAGES, "y_train": LABELS}, "must hold .* it has x_train, y_train"),
        ({"images": IMAGES, "labels": LABELS[:-1]}, "20 images but 19 labels"),
        ({"images": IMAGES * 1.0, "labels": LABELS}, r"float64 images have values from 0 to 255, .*data.value_range="),
        ({"images": IMAGES.astype(int) - 9, "labels": LABELS}, r"int64 images have values from -9 to 246"),
        ({"images": np.full((20, 9, 9), np.nan), "labels": LABELS}, "values from nan to nan"),
        ({"images": IMAGES[0, 0], "labels": LABELS[:11]}, r"are uint8 of shape \(11, 3\)"),
        ({"images": IMAGES.astype(str), "labels": LABELS}, "images must be numbers of shape"),
        (
            {"images": np.zeros((20, 9, 9, 7)), "labels": LABELS},
            "which axis of images of shape .* Say data.layout=NHWC",
        ),
        (
            {"images": np.zeros((20, 3, 9, 3)), "labels": LABELS},
            "which axis of images of shape .* Say data.layout=NHWC",
        ),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels must be whole numbers, names"),
        ({"images": IMAGES, "labels": 2 * np.eye(20)}, "rows of labels must be of 0 and 1"),
        ({"images": IMAGES, "labels": LABELS * 0 + 3}, "all labels are 3; there must be at least two classes"),
        ({"images": IMAGES, "labels": np.arange(20)}, "cannot be divided into training and test images"),
        (
            {"x_train": IMAGES, "y_train": LABELS % 3, "x_test": IMAGES, "y_test": LABELS},
            "the test split has a label that the train split has not, 3",
        ),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :8], "y_test": LABELS},
            r"training and test images differ in shape, \(3, 9, 11\) and \(3, 8, 11\)",
        ),
    ],
)
def test_arrays_with_something_else(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=said):
        Arrays(path=tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test_fraction": 0.0}, "data.test_fraction must be between 0 and 1, got 0.0"),
        (
            {"value_range": [1, 0]},
            r"data.value_range must be \[black,white\], numbers, the smaller first, got \[1, 0\]",
        ),
        ({"value_range": [0, 1, 2]}, "data.value_range must be"),
        ({"val_split": True}, "data.val_split=true has no effect without val_images"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(ValueError, match=said):
        Arrays(path=tmp_path / "x.npz", **options)


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("<html>")
    for path in (tmp_path / "x.npz", tmp_path / "missing.npz"):
        with pytest.raises(DataError, match=f"data.path={path} is not a readable"):
            Arrays(path=path)


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.array([print], dtype=object), labels=LABELS[:1])
    with pytest.raises(DataError, match="not a readable"):
        Arrays(path=tmp_path / "x.npz")


def test_the_files_that_are_read_are_known_without_the_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    (tmp_path / "own").mkdir()
    for name, array in (("images", IMAGES), ("labels", LABELS), ("notes", LABELS)):
        np.save(tmp_path / "own" / f"{name}.npy", array)
    for path, number in ((tmp_path / "x.npz", 1), (tmp_path / "own", 2)):
        found = own_files({"_target_": "capsbench.data.Arrays", "path": str(path)})
        assert found is not None
        assert contents_of(*found) == Arrays(path=path).contents
        assert len(found[1]) == number
