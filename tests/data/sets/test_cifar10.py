"""CIFAR-10 from small files in exactly its format."""

import hashlib
import io
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from capsbench.data import CIFAR10, DataError
from capsbench.data.files import DataFile, FileSet

NOWHERE = ("http://127.0.0.1:9/nothing",)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar10(tmp_path: Path) -> type[CIFAR10]:
    """Two images per batch, archived; the pixels of image i are all 10 · i, in training order."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        rows = np.repeat(np.array([[20 * number], [20 * number + 10]], dtype=np.uint8), 3072, axis=1)
        rows[:, 0] = 255  # the red upper left corner tells whether the layout is right
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [number, 9 - number]}))
        lists["train_list" if number < 5 else "test_list"].append([name, md5(folder / name)])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    archive = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    parser = type("TinyParser", (torchvision.datasets.CIFAR10,), {**lists, "meta": meta})
    source = FileSet("cifar10", (DataFile(archive.name, md5(archive), NOWHERE, None, 0.1),), elsewhere=(".",))
    return type("Tiny", (CIFAR10,), {"torchvision_class": parser, "source": source, "__module__": __name__})


def test_cifar10_is_extracted_once_and_read(cifar10: type[CIFAR10], tmp_path: Path) -> None:
    for _ in range(2):
        data = cifar10(data_dir=tmp_path)
        data.prepare_data()
        data.setup()
        assert data.splits["train"].images.shape == (10, 3, 32, 32)
        assert data.splits["train"].images[:, 1, 5, 5].tolist() == [10 * i for i in range(10)]
        assert data.splits["train"].images[3, :, 0, 0].tolist() == [255, 30, 30]
        assert data.splits["test"].labels.tolist() == [5, 4]
        (tmp_path / "cifar10" / "cifar-10-python.tar.gz").unlink(missing_ok=True)


def test_cifar10_damaged_archive_is_not_opened(
    cifar10: type[CIFAR10], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    content = archive.read_bytes()
    archive.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    monkeypatch.setattr(tarfile, "open", lambda *_a, **_k: pytest.fail("the archive was opened"))
    with pytest.raises(DataError, match="is damaged or another file: its content must have MD5"):
        cifar10(data_dir=tmp_path).setup()


def test_cifar10_archive_that_climbs_out_is_not_opened(cifar10: type[CIFAR10], tmp_path: Path) -> None:
    archive = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../../evil")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"!"))
    with pytest.raises(DataError, match="is damaged or another file"):
        cifar10(data_dir=tmp_path).setup()
    assert not list(tmp_path.rglob("evil"))


def test_cifar10_no_pickle_is_opened_before_its_digest(
    cifar10: type[CIFAR10], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar10(data_dir=tmp_path).prepare_data()
    (tmp_path / "cifar10" / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"evil")
    (tmp_path / "cifar10" / "cifar-10-python.tar.gz").unlink()
    monkeypatch.setattr(pickle, "load", lambda *_a, **_k: pytest.fail("a pickle was opened"))
    with pytest.raises(DataError, match="could not be downloaded"):
        cifar10(data_dir=tmp_path).setup()


def test_cifar10_half_extracted_is_extracted_again(cifar10: type[CIFAR10], tmp_path: Path) -> None:
    cifar10(data_dir=tmp_path).prepare_data()
    batch = tmp_path / "cifar10" / "cifar-10-batches-py" / "data_batch_5"
    batch.write_bytes(batch.read_bytes()[:10])
    data = cifar10(data_dir=tmp_path)
    data.setup()
    assert data.num_examples("train") == 10


def test_cifar10_killed_while_extracting_leaves_no_part(
    cifar10: type[CIFAR10], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_archive: str, folder: str) -> None:
        Path(folder, "cifar-10-batches-py").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(torchvision.datasets.utils, "extract_archive", half)
        with pytest.raises(KeyboardInterrupt):
            cifar10(data_dir=tmp_path).prepare_data()
    assert not (tmp_path / "cifar10" / "cifar-10-batches-py").exists()
    data = cifar10(data_dir=tmp_path)
    data.setup()
    assert data.num_examples("train") == 10
