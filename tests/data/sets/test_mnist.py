"""MNIST and Fashion-MNIST: where they come from and what is refused."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from capsbench.data import MNIST, DataError, FashionMNIST
from capsbench.data.files import DataFile, FileSet
from capsbench.data.sets.mnist import IdxImages

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, array: np.ndarray) -> None:
    """A file in the IDX format: magic number, big-endian dimensions, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def tiny(tmp_path: Path) -> type[IdxImages]:
    """A data set of ten images, its files in tmp_path/tiny, gzip-compressed, its address one that does not exist."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    random = np.random.default_rng(0)
    files = []
    for split, number in (("train", 6), ("t10k", 4)):
        for name, array in (
            (f"{split}-images-idx3-ubyte", random.integers(0, 256, (number, 28, 28), dtype=np.uint8)),
            (f"{split}-labels-idx1-ubyte", np.arange(number, dtype=np.uint8)),
        ):
            write_idx(folder / f"{name}.gz", array)
            content = gzip.decompress((folder / f"{name}.gz").read_bytes())
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            files.append(DataFile(name, md5, (f"http://localhost:9/{name}.gz",), "0" * 32, 0.1))
    source = FileSet("tiny", tuple(files), elsewhere=("MNIST/raw",))
    return type("Tiny", (IdxImages,), {"source": source, "title": "tiny", "__module__": __name__})


def test_reads_compressed_files(tiny: type[IdxImages], tmp_path: Path) -> None:
    data = tiny(data_dir=tmp_path)
    data.prepare_data()
    data.setup()
    assert data.splits["train"].images.shape == (6, 1, 28, 28)
    assert data.splits["test"].labels.tolist() == [0, 1, 2, 3]


def test_reads_plain_files_the_same(tiny: type[IdxImages], tmp_path: Path) -> None:
    compressed = tiny(data_dir=tmp_path)
    compressed.setup()
    for path in (tmp_path / "tiny").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    plain = tiny(data_dir=tmp_path)
    plain.setup()
    assert plain.splits["train"].images.equal(compressed.splits["train"].images)


def test_reads_what_torchvision_left(tiny: type[IdxImages], tmp_path: Path) -> None:
    shutil.move(tmp_path / "tiny", tmp_path / "MNIST" / "raw")
    assert tiny.source.fetch(tmp_path) == tmp_path / "MNIST" / "raw"


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "HTML page", "wrong magic", "empty"])
def test_damaged_files_are_refused(tiny: type[IdxImages], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tiny" / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    path.write_bytes(
        {
            "flipped bit": good[:100] + bytes([good[100] ^ 1]) + good[101:],
            "truncated": good[: len(good) // 2],
            "HTML page": b"<!doctype html><title>404</title>",
            "wrong magic": gzip.compress(b"\x00\x00\x0d\x03" + gzip.decompress(good)[4:]),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(DataError, match=rf"{path} (is damaged|cannot be read).*delete it"):
        tiny(data_dir=tmp_path).setup()


def test_a_damaged_file_is_told_by_its_digests(tiny: type[IdxImages], tmp_path: Path) -> None:
    path = tmp_path / "tiny" / "t10k-labels-idx1-ubyte.gz"
    write_idx(path, np.zeros(4, dtype=np.uint8))
    expected = tiny.source.files[3].md5
    with pytest.raises(DataError, match=rf"must have MD5 {expected}, has [0-9a-f]{{32}}"):
        tiny(data_dir=tmp_path).setup()


def test_missing_without_network(tiny: type[IdxImages], tmp_path: Path) -> None:
    (tmp_path / "tiny" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError) as error:
        tiny(data_dir=tmp_path).prepare_data()
    message = str(error.value)
    assert "could not be downloaded" in message
    assert "tiny lacks train-labels-idx1-ubyte" in message
    assert "CAPSBENCH_DATA" in message
    assert "\n" not in message


def test_real_mnist(shared: Path) -> None:
    data = MNIST(data_dir=shared / "data")
    data.prepare_data()
    data.setup()
    assert data.splits["train"].images.shape == (60_000, 1, 28, 28)
    assert data.splits["train"].labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.splits["test"].labels.bincount().sum() == 10_000


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_real_fashion_mnist(tmp_path: Path) -> None:
    data = FashionMNIST(data_dir=tmp_path, standardized=True)
    data.setup()
    assert data.splits["train"].labels.bincount().tolist() == [6000] * 10
    batch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(batch.images.mean(dim=(1, 2, 3)), torch.zeros(512), atol=1e-5, rtol=0)
