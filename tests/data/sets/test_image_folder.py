"""Your own pictures in folders."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data import DataError, ImageFolder
from capsbench.data.digest import contents_of
from capsbench.data.own_files import own_files

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
    for place in ("train/a", "train/b", "test/a"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / place / "0.JPEG")
    data = ImageFolder(path=tmp_path)
    data.setup()
    assert data.image_shape == (1, 9, 11)
    assert data.splits["train"].images.shape == (2, 1, 9, 11)


def test_pictures_are_seen_as_a_viewer_shows_them(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.rot90(IMAGES[0]).copy()).save(tmp_path / split / "a" / "0.tiff", exif=exif)
        clear = Image.fromarray(IMAGES[1])
        clear.putalpha(0)
        clear.save(tmp_path / split / "b" / "1.png")
    data = ImageFolder(path=tmp_path, background="red")
    data.setup()
    assert data.image_shape == (3, 9, 11)
    upright, clear_one = data.splits["train"].images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(upright, IMAGES[0])
    assert (clear_one == (255, 0, 0)).all()


def fill(folder: Path, number: int, size: tuple[int, int] = (9, 11)) -> None:
    folder.mkdir(parents=True)
    for i in range(number):
        Image.fromarray(IMAGES[i, : size[0], : size[1]]).save(folder / f"{i}.png")


def test_classes_without_a_test_folder_are_divided(tmp_path: Path) -> None:
    for name, number in (("class10", 10), ("class2", 5)):
        fill(tmp_path / name, number)
    data, again = ImageFolder(path=tmp_path, seed=1), ImageFolder(path=tmp_path, seed=2)
    data.setup()
    again.setup()
    assert data.classes == ["class2", "class10"]
    counts = {split: torch.bincount(data.splits[split].labels).tolist() for split in ("train", "test")}
    assert counts == {"train": [4, 8], "test": [1, 2]}
    assert torch.equal(data.splits["test"].images, again.splits["test"].images)
    everything = torch.cat([split.images for split in data.splits.values()])
    assert len(everything) == 15
    half = ImageFolder(path=tmp_path, test_fraction=0.4)
    half.setup()
    assert half.num_examples("test") == 6


@pytest.mark.parametrize("memory", [2**40, 0])
def test_pictures_to_measure_a_network_on_are_not_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr("capsbench.data.sets.image_folder.free_memory_bytes", lambda: memory)
    fill(tmp_path / "few" / "only", 1)
    with pytest.raises(DataError, match="at least two classes, has 1"):
        ImageFolder(path=tmp_path / "few")
    data = ImageFolder(path=tmp_path / "few", measured="all", cache=tmp_path / "cache")
    data.setup()
    assert {split: data.num_examples(split) for split in data.splits} == {"train": 1, "test": 0}
    fill(tmp_path / "few" / "other", 1)
    with pytest.raises(
        DataError, match=r"with data\.test_fraction=0\.2: .*; give another, or split=all, which divides"
    ):
        ImageFolder(path=tmp_path / "few", measured="test")


@pytest.mark.parametrize("measured", ["val", "all"])
def test_a_folder_to_validate_on_is_read_where_it_is_measured(folder: Path, measured: Any) -> None:
    fill(folder / "val" / "pear", 4)
    data = ImageFolder(path=folder, measured=measured)
    data.setup()
    assert {split: data.num_examples(split) for split in data.splits} == {"train": 6, "val": 4, "test": 4}


def test_two_folders_of_one_split_are_refused(folder: Path) -> None:
    fill(folder / "Training" / "apple", 1)
    with pytest.raises(
        DataError, match=r"has both (Training/ and train|train/ and Training)/; put their pictures into one"
    ):
        ImageFolder(path=folder)


def test_what_systems_leave_in_folders_is_passed_over(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._0.png", ".hidden/0.png"):
        path = folder / "train" / "apple" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0")
    for name in ("__MACOSX", ".git"):
        (folder / "train" / name).mkdir()
        (folder / name).mkdir()
    fill(folder / "train" / "apple" / "deeper" / "still", 2)
    data = ImageFolder(path=folder)
    data.setup()
    assert torch.bincount(data.splits["train"].labels).tolist() == [5, 3]


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
def test_a_folder_to_validate_on(folder: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder / name / "pear", 4)
    data = ImageFolder(path=folder, val_split=True)
    data.setup("fit")
    assert data.watched_split == "val"
    assert data.splits["val"].labels.tolist() == [1] * 4
    assert "test" not in data.splits
    data.setup("test")
    assert data.num_examples("test") == 4
    assert not caplog.records

    unasked = ImageFolder(path=folder)
    unasked.setup()
    assert (unasked.watched_split, "val" in unasked.splits) == ("test", False)
    assert "is not read; data.val_split=true holds it out" in caplog.text
    (folder / "test").rename(folder / "other")
    tested = ImageFolder(path=folder)
    tested.setup()
    assert tested.splits["test"].labels.tolist() == [1] * 4


def test_the_files_that_are_read_are_known_without_the_set(folder: Path) -> None:
    fill(folder / "Val" / "pear", 4)
    for val_split, number in ((False, 10), (True, 14)):
        settings = {"_target_": "capsbench.data.ImageFolder", "path": str(folder), "val_split": val_split}
        found = own_files(settings)
        assert found is not None
        assert contents_of(*found) == ImageFolder(path=folder, val_split=val_split).contents
        assert len(found[1]) == number
    (folder / "test").rename(folder / ".test")
    found = own_files(settings | {"val_split": False})
    assert found is not None
    assert contents_of(*found) == ImageFolder(path=folder).contents
    assert own_files({"_target_": "capsbench.data.MNIST", "path": str(folder)}) is None


def test_pictures_of_several_sizes(folder: Path) -> None:
    fill(folder / "train" / "apple" / "small", 1, (5, 7))
    with pytest.raises(
        DataError, match=r"picture to train on, 11×9; the train split has 2 sizes, such as 11×9 \(6\), 7×5"
    ):
        ImageFolder(path=folder).setup()
    for fit in ("stretch", "crop", "pad"):
        data = ImageFolder(path=folder, resize=8, fit=fit)
        data.setup()
        assert data.input_shape == (3, 8, 8)
        assert data.preparation.fit == fit
        train = data.splits["train"].images
        assert train.shape == (7, 3, 8, 8)
        assert bool((train == 0).all(dim=3).any()) == (fit == "pad")


def test_a_class_is_found_by_its_name(folder: Path) -> None:
    (folder / "train" / "pear").rename(folder / "train" / "1")
    (folder / "train" / "apple").rename(folder / "train" / "7")
    for name in ("apple", "pear"):
        (folder / "test" / name).rename(folder / "test" / ("7" if name == "apple" else "1"))
    data = ImageFolder(path=folder)
    assert [data.number_of(name) for name in ("1", 7, 0, 1)] == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="has no class kiwi; its classes are 1, 7"):
        data.number_of("kiwi")


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
        shutil.rmtree(folder / "test")
    elif kind == "one class":
        shutil.rmtree(pear)
    elif kind == "no class in test":
        shutil.rmtree(folder / "test")
        (folder / "test").mkdir()
    elif kind == "a class of one picture":
        shutil.rmtree(folder / "test")
        for path in (folder / "train").iterdir():
            path.rename(folder / path.name)
        (folder / "train").rmdir()
        fill(folder / "quince", 1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty class folder", "quince has no images; remove the folder or fill it"),
        ("text among the images", r"notes\.txt is not a file that ends with \.png, .*; move it away"),
        ("text that calls itself an image", r"1\.png is not a picture in PNG, "),
        ("truncated image", r"1\.png is damaged"),
        ("another size", r"all must have the size .* 11×9; .* data\.resize=64 makes all 64×64"),
        ("unknown class in test", "test has classes that .*train has not: quince"),
        (
            "no test",
            "must hold train/ and test/ with a folder for each class, or the folders of the classes; it has train",
        ),
        ("one class", "must hold a folder for each of at least two classes, has 1"),
        ("no class in test", "test has no class folders"),
        ("a class of one picture", "cannot be divided into training and test images"),
    ],
)
def test_folders_with_something_else(folder: Path, kind: str, said: str) -> None:
    spoil(folder, kind)
    with pytest.raises(DataError, match=said):
        ImageFolder(path=folder).setup()


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*missing"):
        ImageFolder(path=tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test_fraction": 0.3}, "data.test_fraction has no effect: .* has train/ and test/"),
        ({"test_fraction": 1.0}, "data.test_fraction must be between 0 and 1, got 1.0"),
        ({"val_split": True}, "data.val_split=true has no effect without .*val; leave"),
        ({"fit": "crop"}, "data.fit=crop has no effect without data.resize"),
        ({"resize": 5000}, "data.resize must be from 1 to 4096, got 5000"),
    ],
)
def test_settings_that_cannot_be_used(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageFolder(path=folder, **options)
