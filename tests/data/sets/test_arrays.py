"""Your own images from a file of arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch

from capsbench.data import Arrays, DataError

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
