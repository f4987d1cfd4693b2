"""The networks that come with the package are small, and as good as their descriptions say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import capsbench
from capsbench.data import MNIST, DataError, Digits, FashionMNIST, ImageDataModule
from capsbench.inference.classifier import NETWORKS
from capsbench.inference.files import WEIGHTS

SETS: dict[str, Callable[[Path], ImageDataModule]] = {
    "digits": lambda folder: Digits(),
    "mnist": lambda folder: MNIST(data_dir=folder),
    "fashion_mnist": lambda folder: FashionMNIST(data_dir=folder),
}


@pytest.mark.parametrize("name", capsbench.networks())
def test_accuracy_is_what_the_description_says(name: str, shared: Path) -> None:
    classifier = capsbench.load(name)
    said = classifier.description.run
    data = SETS[said["data"]](shared / "data")
    try:
        data.setup()
    except DataError as error:
        pytest.skip(str(error))
    numbers = torch.arange(data.num_examples("test"))
    hits = 0
    for indices in numbers.split(1000):
        images, labels = (part[indices] for part in data.splits["test"])
        hits += int((classifier.predict(images).labels[:, 0] == labels).sum())
    assert len(numbers) == said["examples"]
    assert hits / len(numbers) == pytest.approx(said["accuracy"], abs=3 / len(numbers)), "other CPUs round otherwise"
    low, high = said["interval"]
    assert low < said["accuracy"] < high
    assert said["command"].startswith("capsbench train experiment=networks ")


def test_they_are_small_and_are_what_the_documentation_names() -> None:
    assert capsbench.networks() == ["digits/fm", "fashion_mnist/dynamic", "fashion_mnist/fm", "mnist/fm"]
    assert all((NETWORKS / name / WEIGHTS).stat().st_size <= 1_000_000 for name in capsbench.networks())


def test_a_folder_of_that_name_counts_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits/fm").mkdir(parents=True)
    Path("digits/fm/model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^digits/fm/model\.json cannot be read"):
        capsbench.load("digits/fm")
