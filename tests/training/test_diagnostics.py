"""What is measured of routing while a network trains."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from capsbench.capsules import CapsuleLayer, ConvCapsuleLayer, FullTransform, MatrixTransform
from capsbench.data import Digits
from capsbench.models import ResNetCapsNet
from capsbench.routing import (
    AttentionRouting,
    Capsules,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    InvertedAttention,
    Router,
    RouterFactory,
    VBRouting,
)
from capsbench.training import ClassificationModule, MarginLoss, RoutingDiagnostics
from capsbench.training.diagnostics import diagnose

CHILDREN = Capsules(torch.randn(6, 5, 4), torch.rand(6, 5))


class Own(Router):
    """A router of one's own that divides children by `share`; the parents of `off` are never active."""

    def __init__(self, sharpness: float = 0.0, off: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.sharpness, self.off = sharpness, off

    def route(self, votes: Tensor, activations: Tensor | None = None) -> Capsules:
        logits = torch.zeros_like(votes[..., 0])
        logits[..., 0] = self.sharpness
        poses = (self.share(logits).unsqueeze(-1) * votes).sum(dim=1)
        active = torch.ones_like(poses[..., 0])
        active[:, list(self.off)] = 0.0
        return Capsules(poses, active)


def layer(router: RouterFactory, parents: int = 4) -> CapsuleLayer:
    return CapsuleLayer(FullTransform(5, parents, 4, 8), router)


def of_layer(router: RouterFactory, parents: int = 4) -> dict[str, float]:
    network = nn.ModuleDict({"top": layer(router, parents)})
    return diagnose(network, partial(network["top"], CHILDREN))


@pytest.mark.parametrize(("sharpness", "entropy"), [(0.0, 1.0), (100.0, 0.0)])
def test_the_entropy_of_the_coupling_is_1_if_uniform_and_0_if_sure(sharpness: float, entropy: float) -> None:
    found = of_layer(partial(Own, sharpness))
    assert found["coupling_entropy/top"] == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("router", [DynamicRouting, EMRouting, VBRouting, AttentionRouting, InvertedAttention])
def test_routers_that_divide_children_have_a_coupling_and_others_have_none(router: type[Router]) -> None:
    assert 0 < of_layer(router)["coupling_entropy/top"] < 1
    assert of_layer(partial(DynamicRouting, iterations=1))["coupling_entropy/top"] == pytest.approx(1)
    assert "coupling_entropy/top" not in of_layer(FMAgreement)
    assert "coupling_entropy/top" not in of_layer(DynamicRouting, parents=1), "one parent gets all of each child"


def test_the_standard_deviation_is_that_of_all_votes() -> None:
    top = layer(FMAgreement)
    votes = top.transform(CHILDREN.poses)
    found = diagnose(nn.ModuleDict({"top": top}), partial(top, CHILDREN))
    assert found["vote_std/top"] == pytest.approx(votes.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize(("off", "share"), [((), 0.0), ((1, 3), 0.5), ((0, 1, 2, 3), 1.0)])
def test_parents_that_no_image_makes_active_are_dead(off: tuple[int, ...], share: float) -> None:
    assert of_layer(partial(Own, off=off))["dead_parents/top"] == share


def test_a_parent_that_one_image_makes_active_is_alive() -> None:
    class Sometimes(Own):
        def route(self, votes: Tensor, activations: Tensor | None = None) -> Capsules:
            poses, active = super().route(votes)
            active[1:, 0] = 0.0
            return Capsules(poses, -active)  # negative activations are as alive

    assert of_layer(partial(Sometimes, off=(1,)))["dead_parents/top"] == 0.25


@pytest.mark.parametrize("competition", ["place", "all"])
def test_maps_are_the_same_whole_and_in_chunks(competition: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = MatrixTransform(num_children=2 * 2 * 2, num_parents=3, pose_dim=4)
    made = ConvCapsuleLayer(transform, DynamicRouting, grid=(5, 5), kernel_size=2, competition=competition)
    children = Capsules(torch.randn(4, 5 * 5 * 2, 4), torch.rand(4, 50))
    network = nn.ModuleDict({"map": made})
    whole = diagnose(network, partial(made, children))
    assert set(whole) == {"vote_std/map", "coupling_entropy/map", "dead_parents/map"}
    assert 0 < whole["coupling_entropy/map"] < 1
    monkeypatch.setattr("capsbench.capsules.convolutional.CHUNK_BYTES", 1)
    assert diagnose(network, partial(made, children)) == pytest.approx(whole, rel=1e-5)


def test_a_network_is_left_as_it_was() -> None:
    class Noisy(Own):
        def route(self, votes: Tensor, activations: Tensor | None = None) -> Capsules:
            return super().route(votes + torch.randn_like(votes))

    network = nn.ModuleDict({"top": layer(Noisy)})
    before, random = dict(vars(network["top"].router)), torch.get_rng_state()
    diagnose(network, partial(network["top"], CHILDREN))
    assert vars(network["top"].router) == before
    assert torch.get_rng_state().equal(random)
    with pytest.raises(ZeroDivisionError):
        diagnose(network, lambda: 1 / 0)
    assert vars(network["top"].router) == before


def test_numbers_that_are_not_finite_are_left_out_and_stop_nothing() -> None:
    broken = layer(DynamicRouting)
    nn.init.constant_(broken.transform.weight, torch.nan)
    assert diagnose(broken, partial(broken, CHILDREN)) == {}


class FewDigits(Digits):
    """64 digits, to train and to test on."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        few = self.splits["train"].take(range(64))
        self.splits = {"train": few, "test": few}


class OneClass(nn.Module):
    """Says the third class of every image."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, images: Tensor) -> Capsules:
        third = torch.zeros_like(self.bias)
        third[2] = 0.5
        active = (0 * self.bias + third).expand(len(images), -1)
        return Capsules(active.unsqueeze(-1), active)


def fit(model: nn.Module, folder: Path, epochs: int, *callbacks: lightning.Callback) -> lightning.Trainer:
    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = ClassificationModule(model, MarginLoss(), partial(torch.optim.Adam, lr=3e-3), num_classes=10)
    trainer.fit(module, datamodule=FewDigits(seed=1, batch_size=32))
    return trainer


@pytest.fixture
def make() -> Callable[[], nn.Module]:
    def model() -> nn.Module:
        torch.manual_seed(1)
        return ResNetCapsNet((1, 32, 32), 10, DynamicRouting, blocks=(1, 1, 1), hidden_capsules=(8,))

    return model


def test_training_is_the_same_bit_for_bit(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    with_them, without = make(), make()
    measured = fit(with_them, tmp_path, 2, RoutingDiagnostics()).callback_metrics
    unmeasured = fit(without, tmp_path, 2).callback_metrics
    assert all(a.equal(b) for a, b in zip(with_them.state_dict().values(), without.state_dict().values(), strict=True))
    assert {name: measured[name] for name in unmeasured} == unmeasured
    of_layers = {f"test/{what}/capsule_layers.{number}" for what in ("vote_std", "coupling_entropy", "dead_parents")
                 for number in (0, 1)}  # fmt: skip
    assert set(measured) - set(unmeasured) == {"test/most_predicted", *of_layers}
    assert 0.1 <= measured["test/most_predicted"] <= 1


def test_a_class_that_takes_all_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = RoutingDiagnostics()
    with caplog.at_level(logging.WARNING, "capsbench"):
        measured = fit(OneClass(), tmp_path, 3, watching).callback_metrics
        assert not caplog.records, "after so few steps a network may well do that"
        monkeypatch.setattr("capsbench.training.diagnostics.STEPS", 2)
        fit(OneClass(), tmp_path, 3, watching)
        resumed = RoutingDiagnostics()
        resumed.load_state_dict(watching.state_dict())
        fit(OneClass(), tmp_path, 1, resumed)
    (said,) = caplog.messages
    assert measured["test/most_predicted"] == 1
    assert said.startswith("after epoch 1 the network predicts class 2 for 100 % of the test images")
    assert "running.md" in said
    assert "\n" not in said


def test_unbalanced_labels_and_other_splits_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsbench.training.diagnostics.STEPS", 0)
    monkeypatch.setattr(FewDigits, "setup", lambda self, stage=None: _only_twos(self))
    with caplog.at_level(logging.WARNING, "capsbench"):
        fit(OneClass(), tmp_path, 1, RoutingDiagnostics())
    assert not caplog.records


def _only_twos(data: Digits) -> None:
    Digits.setup(data)
    twos = data.splits["train"].take((data.splits["train"].labels == 2).nonzero().flatten()[:64].tolist())
    data.splits = {"train": twos, "test": twos}


def test_a_run_has_them_by_default(capsbench: Callable[..., Path]) -> None:
    outputs = capsbench("train", "trainer=smoke", "data.subset=64", "data.test_subset=32", "router=em2")
    (path,) = outputs.rglob("metrics.csv")
    names = {name for name in pd.read_csv(path).columns if name.count("/") == 2}
    assert {"test/vote_std/capsule_layers.0", "test/coupling_entropy/capsule_layers.0"} <= names
    assert "test/most_predicted" in pd.read_csv(path).columns
