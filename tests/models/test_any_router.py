"""Every router of conf/router in every network of conf/arch: a training step, an export, or a refusal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from capsbench.data import Batch
from capsbench.launch.config import CONF
from capsbench.training import ClassificationModule, CrossEntropyLoss

SIDE = 17
"""Pixels: the least that the two 9×9 convolutions of CapsNet leave a place of."""
TINY: dict[str, Any] = {
    "filters": 4,
    "groups": 2,
    "types": 2,
    "primary_types": 2,
    "hidden_types": [2, 2],
    "blocks": [1, 1, 1],
}
"""Settings of networks where they have them."""


def read(group: str, name: str) -> Any:
    """A choice with what it builds upon."""
    own = OmegaConf.load(Path(CONF, group, f"{name}.yaml"))
    bases = [each for each in own.pop("defaults", []) if each != "_self_"]
    return OmegaConf.merge(*(read(group, base) for base in bases), own)


def classes(group: str) -> list[str]:
    """The choices that name a class; others change its settings."""
    paths = sorted(Path(CONF, group).glob("[!_]*.yaml"))
    return [path.stem for path in paths if "_target_" in OmegaConf.load(path)]


def choice(group: str, name: str) -> Any:
    made = read(group, name)
    return OmegaConf.merge(made, {key: value for key, value in TINY.items() if key in made})


def refusal(arch: str, router: str) -> str | None:
    """How a pair is refused, if it is."""
    if choice("arch", arch)["_target_"].endswith(".ResNet"):
        return (
            None if router == "none" else "ResNet has no capsules to route; set router=no_router, or take ResNetCapsNet"
        )
    if router == "none":
        return "a capsule layer needs a router, got no_router; take another router, or ResNet"
    if arch == "hitnet" and choice("router", router)["_target_"].endswith(("EMRouting", "VBRouting")):
        return 'rectified primary capsules have no activations, by which .* weighs them; take primary="squash"'
    return None


@pytest.mark.parametrize("router", classes("router"))
@pytest.mark.parametrize("arch", [*classes("arch"), "hitnet"])
def test_a_pair_does_a_step_or_is_refused(arch: str, router: str) -> None:
    torch.manual_seed(0)

    def make() -> Any:
        return instantiate(choice("arch", arch))((1, SIDE, SIDE), 3, instantiate(choice("router", router)))

    if (said := refusal(arch, router)) is not None:
        with pytest.raises(ValueError, match=rf"^{said}.*\Z"):
            make()
        return
    module = ClassificationModule(make(), CrossEntropyLoss(), torch.optim.Adam, num_classes=3)
    images = torch.rand(4, 1, SIDE, SIDE)
    batch = Batch(images, torch.tensor([0, 1, 2, 0]), images.unsqueeze(1))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    module.outcome(batch, training=True).loss.backward()
    optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert any(not parameter.equal(before[name]) for name, parameter in module.named_parameters())
    assert torch.isfinite(module.outcome(batch).loss)


@pytest.mark.parametrize("arch", [*classes("arch"), "hitnet"])
def test_no_images_give_no_classes(arch: str) -> None:
    router = next(router for router in ("fm", "none") if refusal(arch, router) is None)
    net = instantiate(choice("arch", arch))((1, SIDE, SIDE), 3, instantiate(choice("router", router)))
    for training in (True, False):
        assert net.train(training)(torch.rand(0, 1, SIDE, SIDE)).activations.shape == (0, 3)


def pairs() -> list[Any]:
    """Those that fit; all routers in one network and one router in all networks are tried first."""
    fit = [(arch, router) for arch in classes("arch") for router in classes("router") if refusal(arch, router) is None]
    return [
        pytest.param(*pair, marks=[] if {"capsnet", "fm", "none"} & {*pair} else [pytest.mark.engines]) for pair in fit
    ]


@pytest.mark.parametrize(("arch", "router"), pairs())
def test_exported_it_takes_batches_of_any_size(arch: str, router: str) -> None:
    torch.manual_seed(0)
    settings = choice("router", router)
    if "iterations" in settings:
        settings.iterations = 2
    net = instantiate(choice("arch", arch))((1, SIDE, SIDE), 3, instantiate(settings)).eval()
    images = torch.rand(5, 1, SIDE, SIDE)
    program = torch.export.export(net, (images[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    for size in (1, 5):
        for exported, ours in zip(program(images[:size]), net(images[:size]), strict=True):
            assert torch.allclose(exported, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "least"),
    [("capsnet", 17), ("hitnet", 17), ("matrix_capsnet_small", 17), ("efficient_capsnet", 11), ("resnet_capsnet", 8)],
)
def test_an_image_that_is_too_small_is_refused_with_the_least_size(arch: str, least: int) -> None:
    made = instantiate(choice("arch", arch))
    made((1, least, least), 3, instantiate(choice("router", "fm")))
    with pytest.raises(ValueError, match=rf"needs images of at least {least}×{least} pixels.*, got {least - 1}×40.*\Z"):
        made((1, least - 1, 40), 3, instantiate(choice("router", "fm")))
