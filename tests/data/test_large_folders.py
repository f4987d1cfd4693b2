"""Folders of many pictures: on disk where memory is short, and with some that cannot be read."""

import io
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from capsbench.data import BatchKey, DataError, ImageFolder, decoding
from capsbench.data.augmentation import Augmentation
from capsbench.data.decoding import Form, Read, decode
from capsbench.data.sets import image_folder

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 9, 11, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("apple", "pear")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(IMAGES[20 * label + i]).save(tmp_path / "own" / name / f"{i}.png")
    return tmp_path / "own"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "free_memory_bytes", lambda: 1000)


def prepared(folder: Path, **options: object) -> ImageFolder:
    data = ImageFolder(path=folder, batch_size=8, augmentation=Augmentation(flip=True), **options)  # type: ignore[arg-type]
    data.setup()
    return data


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.25, "test_subset": 6}, {"resize": 8, "fit": "pad"}])
def test_batches_from_disk_are_those_from_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    in_memory = prepared(folder, **options)
    monkeypatch.setattr(image_folder, "free_memory_bytes", lambda: 1000)
    for on_disk in (prepared(folder, **options), prepared(folder, **options)):
        assert not isinstance(on_disk.splits["train"].images, torch.Tensor)
        for split in in_memory.splits:
            ours, theirs = (list(data.evaluation_loader(split)) for data in (on_disk, in_memory))
            assert len(ours) == len(theirs) > 0
            assert all(torch.equal(one, other) for pair in zip(ours, theirs, strict=True) for one, other in zip(*pair))  # noqa: B905
        for epoch in (0, 1):
            key = BatchKey(epoch, torch.tensor([5, 0, 3]))
            assert torch.equal(on_disk.batch("train", key).images, in_memory.batch("train", key).images)


@pytest.mark.usefixtures("little_memory")
def test_decoded_pictures_are_named_used_again_and_thrown_away(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = {"cache": tmp_path / "mine"}
    first = prepared(folder, **options)
    assert re.search(
        r"own: pictures take .* memory; the train split, 0\.0 GB, is kept in .*mine.*train-.*npy", caplog.text
    )
    kept = sorted((tmp_path / "mine").rglob("*.npy"))
    assert [path.name.partition("-")[0] for path in kept] == ["test", "train"]

    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "decode", lambda *_, **__: pytest.fail("it is decoded again"))
        prepared(folder, **options)
    assert f"the train split is read from {kept[1]}" in caplog.text

    before = first.batch("train", BatchKey(0, torch.arange(32))).images
    for path in (folder / "apple").iterdir():
        Image.fromarray(IMAGES[0] // 2).save(path)
    second = prepared(folder, **options)
    assert not any(path.exists() for path in kept)
    assert len(list((tmp_path / "mine").rglob("*.npy"))) == 2
    assert not torch.equal(second.batch("train", BatchKey(0, torch.arange(32))).images, before)
    assert torch.equal(first.batch("train", BatchKey(0, torch.arange(32))).images, before), "a run that uses it goes on"


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("left", [b"", b"\x93NUMPY", None])
def test_what_an_interruption_leaves_does_not_count(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes | None
) -> None:
    cache = tmp_path / "mine"

    def interrupted(*arguments: object, **options: object) -> object:
        yield next(decode(*arguments, **options))[:3]  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(folder, cache=cache)
    assert not list(cache.rglob("*.npy*"))
    expected = prepared(folder, cache=cache).batch("train", BatchKey(0, torch.arange(32))).images
    for path in cache.rglob("*/train-*.npy"):  # as a killed process, or a disk, may leave them
        path.write_bytes(path.read_bytes()[:-10] if left is None else left)
        path.with_name(f"{path.name}.tmp").write_bytes(b"half")
    assert torch.equal(prepared(folder, cache=cache).batch("train", BatchKey(0, torch.arange(32))).images, expected)
    assert not list(cache.rglob("*/train-*.tmp"))


@pytest.mark.usefixtures("little_memory")
def test_of_two_runs_at_once_one_decodes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def noted(paths: list[Path], form: Form, read: Read, **options: Any) -> Iterator[np.ndarray]:
        decoded.append(len(paths))
        yield from decode(paths, form, read, **options)

    monkeypatch.setattr(image_folder, "decode", noted)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: prepared(folder, cache=tmp_path / "mine"), range(2))
    assert sorted(decoded) == [8, 32]
    key = BatchKey(0, torch.arange(32))
    assert torch.equal(one.batch("train", key).images, other.batch("train", key).images)


@pytest.mark.usefixtures("little_memory")
def test_a_disk_without_space_is_said_before_anything_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(
        DataError, match=r"has space for 0\.0 GB, and the train split needs 0\.0; data\.cache=DIR names"
    ):
        prepared(folder)


@pytest.mark.parametrize("is_little", [False, True])
def test_pictures_that_cannot_be_read_are_left_out_on_request(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, is_little: bool
) -> None:
    if is_little:
        monkeypatch.setattr(image_folder, "free_memory_bytes", lambda: 1000)
    (folder / "apple" / "3.png").write_bytes(b"no picture")
    (folder / "pear" / "7.png").write_bytes((folder / "pear" / "7.png").read_bytes()[:90])
    with pytest.raises(
        DataError, match=r"(apple/3|pear/7)\.png is .*; mend or remove it, .*data\.skip_unreadable=true"
    ):
        prepared(folder)
    for _ in range(2):
        caplog.clear()
        data = prepared(folder, skip_unreadable=True)
        assert sum(data.num_examples(split) for split in ("train", "test")) == 38
        assert sorted(name for names in data.unreadable.values() for name in names) == ["apple/3.png", "pear/7.png"]
        assert "cannot be read and are left out; the first: " in caplog.text
        stored = {image.numpy().tobytes() for split in data.splits.values() for image in split.images[:]}
        assert stored == {IMAGES[i].transpose(2, 0, 1).tobytes() for i in range(40) if i not in (3, 27)}


def test_a_class_that_cannot_be_read_at_all_is_named(folder: Path) -> None:
    for path in (folder / "apple").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture of apple to train on can be read"):
        prepared(folder, skip_unreadable=True)
    for path in (folder / "pear").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no picture to train on can be read; the first: .*\.png"):
        prepared(folder, skip_unreadable=True)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_progress_bar_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(decoding, "SHOWN_AFTER_S", 0)
    paths = sorted(folder.rglob("*.png"))
    for _ in decode(paths, Form((3, 9, 11), is_resized=False), Read(), name="train: reading", quiet=quiet):
        pass
    assert ("train: reading" in terminal.getvalue()) != quiet
