"""Your own pictures in folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data import DataError, ImageFolder

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 9, 11, 3), dtype=np.uint8)


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


def test_pictures_are_seen_as_a_viewer_shows_them(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.rot90(IMAGES[0]).copy()).save(tmp_path / split / "a" / "0.tiff", exif=exif)
        clear = Image.fromarray(IMAGES[1])
        clear.putalpha(0)
        clear.save(tmp_path / split / "a" / "1.png")
    data = ImageFolder(path=tmp_path, background="red")
    data.setup()
    assert data.image_shape == (3, 9, 11)
    upright, clear_one = data.splits["train"].images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(upright, IMAGES[0])
    assert (clear_one == (255, 0, 0)).all()


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
        ("text among the images", r"notes\.txt is not a file that ends with \.png, .*; move it away"),
        ("text that calls itself an image", r"1\.png is not a picture in PNG, "),
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
