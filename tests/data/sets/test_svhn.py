"""SVHN from small files in exactly its format."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision.datasets

from capsbench.data import SVHN, DataError
from capsbench.data.files import DataFile, FileSet

NOWHERE = ("http://127.0.0.1:9/nothing",)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def svhn(tmp_path: Path) -> type[SVHN]:
    """Twelve training and four test digits; image i has all pixels i, and labels 1 to 10, 10 being the digit 0."""
    folder = tmp_path / "svhn"
    folder.mkdir()
    files, lists = [], {}
    for split, number in (("train", 12), ("test", 4)):
        path = folder / f"{split}_32x32.mat"
        pixels = np.tile(np.arange(number, dtype=np.uint8), (32, 32, 3, 1))
        pixels[3, 7, 2] = 200
        scipy.io.savemat(path, {"X": pixels, "y": (np.arange(number) % 10 + 1)[:, None].astype(np.uint8)})
        files.append(DataFile(path.name, md5(path), NOWHERE, None, 0.1))
        lists[split] = [NOWHERE[0], path.name, md5(path)]
    return type("Tiny", (SVHN,), {"source": FileSet("svhn", tuple(files)), "split_list": lists, "__module__": __name__})


@pytest.fixture
def svhn_digests(svhn: type[SVHN], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", svhn.split_list)


@pytest.mark.usefixtures("svhn_digests")
def test_svhn(svhn: type[SVHN], tmp_path: Path) -> None:
    data = svhn(data_dir=tmp_path)
    data.prepare_data()
    data.setup()
    train = data.splits["train"]
    assert train.images.shape == (12, 3, 32, 32)
    assert train.images[5, :, 3, 7].tolist() == [5, 5, 200]
    assert train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]


@pytest.mark.usefixtures("svhn_digests")
def test_svhn_damaged(svhn: type[SVHN], tmp_path: Path) -> None:
    path = tmp_path / "svhn" / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"test_32x32\.mat is damaged or another file"):
        svhn(data_dir=tmp_path).setup()
