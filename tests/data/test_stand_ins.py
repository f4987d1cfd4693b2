"""A few digits in the place of sets that are not here."""

from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.data import CIFAR10, MNIST, SVHN, AffNIST, BatchKey, FashionMNIST, ImageDataModule, MultiMNIST, SmallNORB
from capsbench.data.files import FileSet


def absent(kind: type[ImageDataModule]) -> type[ImageDataModule]:
    """The same set, its files known to be nowhere."""
    nowhere = FileSet("nowhere", kind.source.files)
    return type(kind.__name__, (kind,), {"source": nowhere, "digits": nowhere, "__module__": __name__})


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, SVHN, CIFAR10, AffNIST, MultiMNIST, SmallNORB])
def test_batches_have_the_sets_form_and_the_name_says_what_they_are(
    kind: type[ImageDataModule], tmp_path: Path
) -> None:
    data = absent(kind)(data_dir=tmp_path, absent="stand_in")
    assert data.is_stand_in
    assert (data.title, data.stands_in_for) == (f"{kind.title} (stand-in)", kind.title)
    data.prepare_data()
    data.setup()
    for split in ("train", "test"):
        images, labels, targets = data.batch(split, BatchKey(0, torch.arange(20)))
        assert images.shape == (20, *kind.image_shape)
        assert targets.shape == (20, kind.labels_per_image, *kind.image_shape)
        assert 0 <= labels.min() <= labels.max() < kind.num_classes
    assert list(tmp_path.iterdir()) == []


def test_what_is_here_is_used(shared: Path) -> None:
    data = MNIST(data_dir=shared / "data", absent="stand_in")
    assert not data.is_stand_in
    assert data.title == "MNIST"


@pytest.mark.parametrize(
    ("kind", "options"),
    [(AffNIST, {"test_source": "generated", "per_digit": 4}), (SmallNORB, {"viewpoints": "novel_azimuth"})],
)
def test_settings_without_effect_on_a_stand_in(
    kind: type[ImageDataModule], options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"has no effect with .* \(stand-in\); leave it out"):
        absent(kind)(data_dir=tmp_path, absent="stand_in", **options)


def test_another_word() -> None:
    with pytest.raises(ValueError, match=r"data\.absent must be fetch or stand_in, got invent"):
        MNIST(absent="invent")
