"""Files of data sets: archives that would fill memory, pictures of other formats, labels that are no classes."""

import gzip
import hashlib
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from capsbench.data import Arrays, DataError, Digits, ImageFolder, LabelledImages, SmallNORB
from capsbench.data.batch import StoredSplit
from capsbench.data.files import DataFile, FileSet, _unzip
from capsbench.data.sets import affnist_files, arrays
from capsbench.data.sources import FASHION_MNIST, MNIST, SMALL_NORB

BOMB_BYTES = 200 * 2**20
FILE = DataFile("x.bin", hashlib.md5(b"x").hexdigest(), (), None, download_mb=0.1)
PEAK = 16 * 2**20
"""Bytes of memory that reading a bomb may take: far fewer than it holds."""


def write_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(BOMB_BYTES // 2**20):
            stream.write(bytes(2**20))


def test_a_bomb_in_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    write_bomb(tmp_path / "x.bin.gz")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x\.bin\.gz holds more than 1,000,000 bytes.*; delete it"):
            FileSet(".", (FILE,)).read(tmp_path, "x.bin")
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


def test_nor_is_a_file_that_is_too_large_read(tmp_path: Path) -> None:
    with (tmp_path / "x.bin").open("wb") as stream:
        stream.truncate(10 * 2**30)
    with pytest.raises(DataError, match=r"x\.bin holds more than 1,000,000 bytes"):
        FileSet(".", (FILE,)).read(tmp_path, "x.bin")


def test_a_bomb_in_a_download_is_not_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("x.bin", bytes(2_000_000))
    with pytest.raises(DataError, match=r"x\.zip holds more than 1,000,000 bytes"):
        _unzip(archive, FILE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "size"),
    [
        (MNIST.files[0], 16 + 60_000 * 784),
        (MNIST.files[1], 8 + 60_000),
        (MNIST.files[2], 16 + 10_000 * 784),
        (MNIST.files[3], 8 + 10_000),
        (FASHION_MNIST.files[2], 16 + 10_000 * 784),
        (SMALL_NORB.files[0], 24 + 24_300 * 2 * 96 * 96),
        (SMALL_NORB.files[1], 20 + 24_300 * 4),
        (SMALL_NORB.files[2], 20 + 24_300 * 4 * 4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_sets_themselves_are_smaller_than_what_is_refused(file: DataFile, size: int) -> None:
    assert size < file.most_bytes < 40 * size


def official(path: Path, **changes: np.ndarray) -> None:
    fields = {"image": np.zeros((1600, 2), dtype=np.uint8), "label_int": np.array([[1.0, 2.0]])}
    scipy.io.savemat(path, {"affNISTdata": fields | changes}, do_compression=True)


def test_affnist_that_inflates_beyond_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affnist_files, "MOST_BYTES", 10**6)
    official(tmp_path / "test.mat", image=np.zeros((1600, 20_000), dtype=np.uint8), label_int=np.zeros((1, 20_000)))
    assert (tmp_path / "test.mat").stat().st_size < 10**6
    monkeypatch.setattr(scipy.io, "loadmat", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=r"test\.mat holds more than 1,000,000 bytes"):
        affnist_files.read_official([tmp_path / "test.mat"])


@pytest.mark.parametrize("label", [1.5, -1.0, 10.0, float("nan"), float("inf"), 1e300])
def test_labels_of_affnist_that_are_no_digits(tmp_path: Path, label: float) -> None:
    official(tmp_path / "test.mat", label_int=np.array([[1.0, label]]))
    with pytest.raises(DataError, match=r"test\.mat: labels must be whole numbers from 0 to 9, found"):
        affnist_files.read_official([tmp_path / "test.mat"])


def test_labels_of_affnist_that_are_no_numbers(tmp_path: Path) -> None:
    official(tmp_path / "test.mat", label_int=np.array([["a", "b"]], dtype=object))
    with pytest.raises(DataError, match=r"test\.mat: labels must be whole numbers from 0 to 9, are object"):
        affnist_files.read_official([tmp_path / "test.mat"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a cache of smallNORB is looked for; without it data is made anew, which is counted as an error."""
    monkeypatch.setattr(SmallNORB, "_make_split", lambda *_: (_ for _ in ()).throw(DataError("made again")))
    path = SmallNORB(data_dir=tmp_path)._cache_path("train")
    path.parent.mkdir(parents=True)
    return path


def write_cache(path: Path, label: int = 4, info: tuple[int, int, int, int] = (9, 8, 34, 5), number: int = 5) -> None:
    images = np.zeros((number, 1, 48, 48), dtype=np.uint8)
    labels = np.full(number, label, dtype=np.int64)
    np.savez_compressed(path, images=images, labels=labels, info=np.full((number, 4), info, dtype=np.int64))


def test_a_good_cache_of_smallnorb_is_read(cache: Path, tmp_path: Path) -> None:
    write_cache(cache)
    assert SmallNORB(data_dir=tmp_path).load("train").labels.tolist() == [4] * 5


@pytest.mark.parametrize(
    "changes", [{"label": 99}, {"label": -1}, {"info": (10, 0, 0, 0)}, {"info": (0, 0, 1, 0)}, {"number": 100_000}]
)
def test_a_cache_of_smallnorb_that_holds_something_else(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, object]
) -> None:
    write_cache(cache, **changes)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="made again"):
        SmallNORB(data_dir=tmp_path).load("train")
    (said,) = {record.getMessage() for record in caplog.records}
    assert said.startswith(str(cache))
    assert said.endswith("made again")


def test_a_pickle_in_a_cache_of_smallnorb(cache: Path, tmp_path: Path) -> None:
    np.savez(cache, images=np.array([print], dtype=object), labels=np.zeros(1), info=np.zeros((1, 4)))
    with pytest.raises(DataError, match="made again"):
        SmallNORB(data_dir=tmp_path).load("train")


IMAGES = np.zeros((40, 6, 6), dtype=np.uint8)
LABELS = np.arange(40) % 4


def divided(path: Path, label: np.generic, split: str) -> None:
    labels = {name: LABELS.astype(label.dtype) for name in ("train", "test")}
    labels[split] = np.append(labels[split][:-1], label)
    parts = {f"{name}_labels": found for name, found in labels.items()}
    np.savez(path, train_images=IMAGES, test_images=IMAGES, **parts)


@pytest.mark.parametrize("label", [np.int64(10**9), np.uint64(2**63), np.int64(-1), np.int64(40), np.uint32(2**32 - 1)])
def test_no_label_of_arrays_makes_classes_that_do_not_exist(
    tmp_path: Path, label: np.generic, caplog: pytest.LogCaptureFixture
) -> None:
    divided(tmp_path / "x.npz", label, "test")
    with pytest.raises(DataError, match=rf"the test split has a label that the train split has not, {label}"):
        Arrays(path=tmp_path / "x.npz")
    divided(tmp_path / "x.npz", label, "train")
    data = Arrays(path=tmp_path / "x.npz")
    assert data.num_classes == 5
    assert str(label) in data.names
    assert "its labels do not count from 0 without a gap; its 5 classes are" in caplog.text


def test_arrays_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((10_000, 32, 32), dtype=np.uint8), labels=LABELS)
    monkeypatch.setattr(arrays, "memory_bytes", lambda: 10**7)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=r"x\.npz is not a readable \.npz file: its arrays take more than half"):
        Arrays(path=tmp_path / "x.npz")


def test_an_array_that_says_it_is_larger_than_its_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as members:
        for name in ("images", "labels"):
            with members.open(f"{name}.npy", "w") as stream:
                header = {"descr": "|u1", "fortran_order": False, "shape": (2**50,)}
                np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(DataError, match=r"x\.npz is not a readable \.npz file"):
        Arrays(path=tmp_path / "x.npz")


def test_a_pipe_for_arrays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"x\.npz is not a readable \.npz file: it is not a regular file"):
        Arrays(path=tmp_path / "x.npz")


class Mislabelled(Digits):
    """A set whose reader looks at nothing."""

    label = 10

    def load(self, split: StoredSplit) -> LabelledImages:
        images, labels = super().load(split)
        return LabelledImages(images, torch.cat([labels[:-1], torch.tensor([self.label])]))


@pytest.mark.parametrize("label", [10, -1])
def test_every_set_has_labels_of_its_classes(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mislabelled, "label", label)
    with pytest.raises(
        DataError, match=rf"every label must be a whole number from 0 to 9, the train split has {label}"
    ):
        Mislabelled().setup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of pictures."""
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(IMAGES[0]).save(tmp_path / place / "0.png")
    return tmp_path


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 6 6
%%EndComments
0 0 6 6 rectfill
showpage
"""


def test_postscript_that_calls_itself_a_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "train" / "a" / "0.png"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as image:
        assert image.format == "EPS", "Pillow by itself would take it"
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(DataError, match=r"0\.png is not a picture in PNG, JPEG, .* format"):
        ImageFolder(path=folder).setup()


@pytest.mark.parametrize("kind", ["PPM", "ICO"])
def test_other_formats_by_the_name_of_a_png(folder: Path, kind: str) -> None:
    Image.fromarray(IMAGES[0]).convert("RGB").save(folder / "train" / "a" / "0.png", format=kind)
    with pytest.raises(DataError, match=r"0\.png is not a picture in PNG, JPEG, .* format"):
        ImageFolder(path=folder).setup()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [4097, 12_000, 60_000])
def test_a_picture_of_too_many_pixels(folder: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    (folder / "train" / "a" / "0.png").write_bytes(png)
    with pytest.raises(DataError, match=r"0\.png is "):
        ImageFolder(path=folder).setup()


def test_a_pipe_among_pictures(folder: Path) -> None:
    os.mkfifo(folder / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"1\.png is not a file that ends with \.png, .*move it away"):
        ImageFolder(path=folder).setup()


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    assert Arrays(path="~/x.npz").path == tmp_path / "x.npz"
    assert ImageFolder(path="train/..", data_dir="~").path == tmp_path / "train/.."
    assert ImageFolder(path="~").path == tmp_path
    assert SmallNORB(data_dir="~/data").data_dir == tmp_path / "data"
