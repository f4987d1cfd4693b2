"""Anyone's own images: arrays in a file, pictures in folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data import Arrays, DataError, ImageFolder

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


def test_arrays_to_be_divided(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES[..., 0], labels=LABELS)
    data = Arrays(path=tmp_path / "x.npz")
    assert data.image_shape == (1, 9, 11)
    data.setup()
    assert data.splits["train"].labels.bincount().tolist() == [4] * 4
    assert data.splits["test"].labels.bincount().tolist() == [1] * 4


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": IMAGES}, "must hold images, labels or train_images"),
        ({"images": IMAGES, "labels": LABELS[:-1]}, "20 images but 19 labels"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images must be uint8 .* are float64"),
        ({"images": IMAGES[0, 0], "labels": LABELS[:11]}, r"are uint8 of shape \(11, 3\)"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"must have 1 channel \(grey\) or 3 \(RGB\), have 2"),
        ({"images": IMAGES, "labels": LABELS - 1}, "labels must count from 0, found -1"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels must be integers"),
        ({"images": IMAGES, "labels": np.arange(20)}, "cannot be divided into training and test images"),
    ],
)
def test_arrays_with_something_else(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=said):
        Arrays(path=tmp_path / "x.npz")


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("<html>")
    for path in (tmp_path / "x.npz", tmp_path / "missing.npz"):
        with pytest.raises(DataError, match=f"data.path={path} is not a readable"):
            Arrays(path=path)


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.array([print], dtype=object), labels=LABELS[:1])
    with pytest.raises(DataError, match="not a readable"):
        Arrays(path=tmp_path / "x.npz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, number in (("train", 3), ("test", 2)):
        for label, name in enumerate(("apple", "pear")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(number):
                Image.fromarray(IMAGES[5 * label + i]).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_folders_of_pictures(folder: Path) -> None:
    data = ImageFolder(path=folder, title="fruit")
    assert (data.image_shape, data.num_classes, data.classes) == ((3, 9, 11), 2, ["apple", "pear"])
    data.setup()
    assert data.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(data.splits["test"].images[3], torch.from_numpy(IMAGES[6]).permute(2, 0, 1))


def test_one_grey_picture_or_a_palette_takes_no_colour_away(folder: Path) -> None:
    first, *_ = sorted((folder / "train").rglob("*.png"))
    with Image.open(first) as picture:
        picture.convert("L").save(first)
    assert ImageFolder(path=folder).image_shape[0] == 3
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(16).save(path)
    assert ImageFolder(path=folder).image_shape[0] == 3


def test_grey_jpegs(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / split / "a" / "0.JPEG")
    data = ImageFolder(path=tmp_path)
    data.setup()
    assert data.image_shape == (1, 9, 11)
    assert data.splits["train"].images.shape == (1, 1, 9, 11)


def spoil(folder: Path, kind: str) -> None:
    pear = folder / "train" / "pear"
    if kind == "empty class folder":
        (folder / "train" / "quince").mkdir()
    elif kind == "text among the images":
        (pear / "notes.txt").write_text("mine")
    elif kind == "text that calls itself an image":
        (pear / "1.png").write_text("mine")
    elif kind == "truncated image":
        (pear / "1.png").write_bytes((pear / "1.png").read_bytes()[:150])
    elif kind == "another size":
        Image.fromarray(IMAGES[0, :5]).save(pear / "1.png")
    elif kind == "unknown class in test":
        (folder / "test" / "quince").mkdir()
    elif kind == "no test":
        (folder / "test").rename(folder / "tset")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty class folder", "quince has no images; remove the folder or fill it"),
        ("text among the images", r"notes\.txt is not a PNG or JPEG file; move it away"),
        ("text that calls itself an image", r"1\.png is not an image"),
        ("truncated image", r"1\.png is damaged"),
        ("another size", r"1\.png is 11×5, others are 11×9"),
        ("unknown class in test", "test has classes that .*train has not: quince"),
        ("no test", "must hold train/ and test/ with a folder for each class"),
    ],
)
def test_folders_with_something_else(folder: Path, kind: str, said: str) -> None:
    spoil(folder, kind)
    with pytest.raises(DataError, match=said):
        ImageFolder(path=folder).setup()


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold train/ and test/"):
        ImageFolder(path=tmp_path / "missing")
