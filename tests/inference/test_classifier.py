"""A trained network is loaded without its data and its configuration, and says what it said in training."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import capsbench
from capsbench import models, routing
from capsbench.data import DataError, Digits
from capsbench.data.pictures import Fit
from capsbench.data.preparation import Preparation
from capsbench.inference import Classifier, Description, load, save
from capsbench.models import CapsNet
from capsbench.routing import Capsules, DynamicRouting, Router

PREPARED = Preparation((1, 32, 32), standardized=True)
FITS: tuple[Fit | None, ...] = (None, "stretch")
TINY: dict[str, Any] = {"_target_": "capsbench.models.CapsNet", "filters": 8, "groups": 2}


class Mean(Router):
    """A user's own."""

    def route(self, votes: Tensor, activations: Tensor) -> Capsules:
        poses = votes.mean(dim=1)
        return Capsules(poses, poses.norm(dim=-1))


def describe(**changes: Any) -> Description:
    given: dict[str, Any] = {
        "arch": TINY,
        "router": {"_target_": "capsbench.routing.DynamicRouting", "iterations": 2},
        "preparation": PREPARED,
        "class_names": ("cat", "dog"),
    }
    return Description(**given | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(describe(), CapsNet((1, 32, 32), 2, DynamicRouting, filters=8, groups=2), tmp_path)
    return tmp_path


def test_it_says_what_the_run_measured(
    capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ("data.subset=64", "trainer.max_epochs=1", "arch.batch_norm_momentum=0.5", "loss=cross_entropy")
    outputs = capsbench("train", "data=digits", *asked, "trainer.enable_progress_bar=false")
    (result,) = outputs.rglob("result.json")
    shutil.move(result.parent, tmp_path / "elsewhere")
    shutil.rmtree(outputs)
    data = Digits()
    data.setup()
    images, labels = data.splits["test"]
    monkeypatch.setattr(Digits, "load", None)

    classifier = load(tmp_path / "elsewhere")
    predictions = classifier.predict(images)
    accuracy = (predictions.labels[:, 0] == labels).double().mean().item()
    told = json.loads((tmp_path / "elsewhere" / "result.json").read_text())["metrics"]["test/accuracy"]
    assert accuracy == pytest.approx(told, abs=1.5 / len(labels))  # a tie may fall either way
    assert classifier.description.run["accuracy"] == told
    assert predictions.names[0] == (str(predictions.labels[0].item()),)
    assert torch.allclose(predictions.scores.sum(dim=1), torch.ones(len(images)))
    assert classifier.features(images[:3]).shape == (3, 10 * predictions.poses.shape[2])


def test_what_pictures_may_be(folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    classifier = load(folder)
    asked = [tmp_path / "a.png", Image.fromarray(pixels), pixels, pixels[..., None], torch.tensor(pixels)[None]]
    asked += [torch.tensor(pixels)[None].double() / 255, np.stack([pixels] * 3, axis=2), str(tmp_path / "a.png")]
    one = classifier.predict(asked[0])
    for picture in asked:
        predictions = classifier.predict([picture])
        assert torch.allclose(predictions.scores, one.scores, atol=1e-5)
        assert predictions.names == one.names
    assert len(classifier.predict(asked)) == len(asked)
    large = classifier.predict(Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)))
    assert torch.allclose(large.scores, one.scores, atol=0.05)


def test_pictures_of_another_size_are_fitted_as_in_training(tmp_path: Path) -> None:
    prepared = Preparation((1, 32, 32), fit="pad", background="white")
    save(describe(preparation=prepared), CapsNet((1, 32, 32), 2, DynamicRouting, filters=8, groups=2), tmp_path)
    classifier = load(tmp_path)
    Image.new("LA", (40, 20), (0, 0)).save(tmp_path / "clear.png")
    padded, stretched = (classifier.prepare(tmp_path / "clear.png", fit) for fit in FITS)
    assert (padded[0, 0, 0].max(), padded[0, 0, 16].min()) == (0, 1)
    assert stretched.min() == 1


def test_what_pictures_may_not_be(folder: Path) -> None:
    classifier = load(folder)
    refused: list[tuple[Any, str]] = [
        ([], "there are no pictures"),
        (torch.zeros(1, 28, 28), r"must be \(picture, 1, 32, 32\), got \(1, 1, 28, 28\)"),
        (torch.full((1, 32, 32), 2.0), r"bytes, or floats in \[0, 1\]"),
        (torch.zeros(1, 32, 32, dtype=torch.int64), r"bytes, or floats in \[0, 1\]"),
        (np.zeros((32, 32)), "of bytes, got .* of float64"),
    ]
    for pictures, said in refused:
        with pytest.raises(ValueError, match=said):
            classifier.predict(pictures)
    with pytest.raises(DataError, match=r"nowhere\.png does not exist"):
        classifier.predict("nowhere.png")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": {"_target_": "os.system"}}, "os.system is no network or router of capsbench, and is not run"),
        ({"router": {"_target_": "capsbench.routing.make_router"}}, "make_router is no network or router"),
        ({"arch": TINY | {"depth": 3}}, "takes no depth"),
        ({"arch": TINY | {"filters": 10**9}}, "is of another network than model.json describes"),
        ({"arch": TINY | {"filters": "many"}}, "the network cannot be made"),
        ({"class_names": ()}, "class_names"),
        ({"labels_per_image": 3}, "an image cannot show 3 of 2 classes"),
        ({"format": 2}, "a newer version of capsbench wrote it"),
        ({"preparation": {"shape": [1, 32, 10**9]}}, "preparation.shape"),
    ],
)
def test_a_damaged_description(folder: Path, changes: dict[str, Any], said: str) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=said) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_damaged_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is damaged"):
        load(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="has lost its weights"):
        load(folder)
    weights.symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="is a link"):
        load(folder)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(ValueError, match="is not a regular file"):
        load(folder)


def test_links_that_a_logger_left_beside_it_do_not_matter(folder: Path) -> None:
    (folder / "wandb").mkdir()
    (folder / "wandb" / "latest-run").symlink_to(folder / "wandb")
    assert load(folder).class_names == ("cat", "dog")


def test_a_router_of_ones_own_is_handed_over(tmp_path: Path) -> None:
    network = CapsNet((1, 32, 32), 2, Mean, filters=8, groups=2).double()
    save(describe(router={"_target_": f"{__name__}.Mean"}), network, tmp_path)
    with pytest.raises(ValueError, match=r"hand it over: load\(path, own=\[MyRouter\]\)"):
        load(tmp_path)
    classifier = load(tmp_path, own=[Mean])
    assert load(tmp_path, own={f"{__name__}.Mean": Mean}).class_names == classifier.class_names
    images = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    expected = network.eval()(PREPARED(255 * images).double())
    assert torch.allclose(classifier.predict(images).poses, expected.poses)


def test_every_network_and_router_of_the_package_comes_back(tmp_path: Path) -> None:
    """Also those that keep more than parameters."""
    routers = {
        name: made
        for name in routing.__all__
        if isinstance(made := getattr(routing, name), type) and issubclass(made, Router) and made is not Router
    }
    sizes = {"MatrixCapsNet": {"filters": 8, "primary_types": 2, "hidden_types": [2, 2]}, "CapsNet": {"filters": 8}}
    pairs = [("MatrixCapsNet", router) for router in routers]
    pairs += [(name, "DynamicRouting") for name in models.__all__ if name not in ("MatrixCapsNet", "ResNet")]
    for arch, router in pairs:
        settings = sizes.get(arch, {})
        network = getattr(models, arch)((1, 32, 32), 2, routers[router], **settings)
        network(torch.rand(4, 1, 32, 32))  # statistics of batches
        description = describe(
            arch={"_target_": f"capsbench.models.{arch}", **settings},
            router={"_target_": f"capsbench.routing.{router}"},
        )
        save(description, network, tmp_path)
        images = PREPARED(255 * torch.rand(2, 1, 32, 32))
        expected, found = network.eval()(images), load(tmp_path).capsules(images)
        assert torch.allclose(found.activations, expected.activations, atol=1e-5), (arch, router)


def test_two_labels_and_shares() -> None:
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activations = torch.nn.Parameter(torch.tensor([[1.0, -1.0, 3.0]]))

        def forward(self, images: Tensor) -> Capsules:
            return Capsules(torch.zeros(len(images), 3, 4), self.activations.expand(len(images), 3))

    description = describe(class_names=("a", "b", "c"), labels_per_image=2, scores="shares")
    predictions = Classifier(description, Fixed()).predict(np.zeros((40, 32), np.uint8))
    assert predictions.names == [("c", "a")]
    assert torch.allclose(predictions.scores, torch.tensor([[0.25, 0.0, 0.75]]))


def test_any_number_of_labels(tmp_path: Path) -> None:
    """Those above the threshold, the surest first: none, some or all."""

    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activations = torch.nn.Parameter(torch.tensor([[0.6, 0.9, 0.1], [0.5, -1.0, 0.2], [2.0, 0.7, 0.8]]))

        def forward(self, images: Tensor) -> Capsules:
            return Capsules(torch.zeros(len(images), 3, 4), self.activations[: len(images)])

    description = describe(class_names=("a", "b", "c"), labels_per_image=None)
    predictions = Classifier(description, Fixed()).predict([np.zeros((32, 32), np.uint8)] * 3)
    assert predictions.names == [("b", "a"), (), ("a", "c", "b")]
    assert predictions.labels.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    stricter = dataclasses.replace(description, threshold=0.75)
    assert Classifier(stricter, Fixed()).predict([np.zeros((32, 32), np.uint8)] * 2).names == [("b",), ()]
    stricter.save(tmp_path / "model.json")
    assert Description.load(tmp_path / "model.json") == stricter


def test_neither_hydra_nor_lightning_is_loaded(folder: Path) -> None:
    asked = (
        f"import sys, capsbench; capsbench.load({str(folder)!r}); print({{'hydra', 'lightning'}} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_names_of_the_package() -> None:
    assert capsbench.load is load
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        capsbench.lode  # type: ignore[attr-defined]  # noqa: B018


def test_a_picture_of_pillows_is_read_as_its_file(tmp_path: Path) -> None:
    classifier = capsbench.load("digits/fm")
    ink = np.zeros((32, 24, 4), np.uint8)
    ink[8:, 4:12] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ink).save(tmp_path / "a.png", exif=exif)
    Image.fromarray((ink[..., 0] * 257.0).astype(np.uint16)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as picture:
            assert torch.equal(classifier.prepare(picture), classifier.prepare(tmp_path / name))
    with pytest.raises(ValueError, match="pixels of Pillow's mode F, whose black and white are not known"):
        classifier.prepare(Image.new("F", (8, 8)))


def test_a_network_without_filters_is_refused_in_a_line(tmp_path: Path) -> None:
    description = capsbench.load("digits/fm").description
    for changed, said in (
        ({"arch": {**description.arch, "filters": -1}}, "the network cannot be made"),
        ({"class_names": ("a",) * 10}, "two classes have one name"),
    ):
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(description, **changed).build()
