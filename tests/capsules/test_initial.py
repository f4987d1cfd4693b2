"""Initial values depend on the seed and the name; paddings and distributions are those that are named."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from capsbench.capsules import Capsules, Conv2d, DeconvDecoder, DenseDecoder, initialise
from capsbench.capsules.initial import ConvTranspose2d, LayerInit, Linear
from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement, Router

SHAPE = (1, 20, 20)
ARCHITECTURES = {
    "capsnet": partial(CapsNet, filters=8, groups=2),
    "three layers": partial(ResNetCapsNet, blocks=(1, 1, 1), hidden_capsules=(6, 6)),
    "a user's": lambda shape, classes, router: UsersNetwork(shape, classes, router),
}
DECODERS = {"deconv": partial(DeconvDecoder, filters=8), "dense": partial(DenseDecoder, hidden=(16, 16))}


class NoisyRouter(Router):
    """A user's router, which draws numbers when it is made and says nothing of them."""

    def __init__(self, num_parents: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(num_parents))
        self.mix = nn.Linear(3, 3)

    def route(self, votes: Tensor, activations: Tensor | None) -> Capsules:
        poses = votes.mean(dim=1)
        return Capsules(poses, poses.norm(dim=-1) + self.bias)


class UsersNetwork(CapsNet):
    """A user's network, with layers of PyTorch before and after what routes."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, filters=8, groups=2)  # type: ignore[arg-type]
        self.last = nn.Linear(5, 5)
        nn.init.eye_(self.last.weight)
        self.other = nn.Linear(5, 5)


def weights(arch: str, decoder: str, router: Callable[..., Router], seed: int) -> dict[str, Tensor]:
    """All parameters of a network and its decoder, as a run builds them."""
    torch.manual_seed(seed)
    model = ARCHITECTURES[arch](SHAPE, 5, router)
    network = nn.ModuleDict({"model": model, "decoder": DECODERS[decoder](SHAPE, 5, 16)})
    initialise(network, seed)
    return dict(network.named_parameters())


@settings(deadline=None, max_examples=10)
@given(
    arch=st.sampled_from(list(ARCHITECTURES)),
    decoder=st.sampled_from(list(DECODERS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_routers_share_initial_values(arch: str, decoder: str, seed: int) -> None:
    routers = (FMAgreement, DynamicRouting, EMRouting, NoisyRouter)
    found = [weights(arch, decoder, router, seed) for router in routers]
    shared = set.intersection(*(set(each) for each in found)) - {
        name
        for name in found[0]
        if "vote_norm" in name  # γ begins with the router's own
    }
    assert shared >= {name for name in found[0] if "vote_norm" not in name}
    for name in shared:
        assert all(other[name].equal(found[0][name]) for other in found[1:]), name


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("decoder", DECODERS)
def test_another_seed_and_another_name_give_other_values(arch: str, decoder: str) -> None:
    one, other = (weights(arch, decoder, EMRouting, seed) for seed in (1, 2))
    assert all(one[name].equal(weight) for name, weight in weights(arch, decoder, EMRouting, 1).items())
    drawn = [name for name, weight in one.items() if weight.unique().numel() > 2]
    assert len(drawn) > 5
    assert not any(one[name].equal(other[name]) for name in drawn)
    for first, second in itertools.combinations(drawn, 2):
        assert one[first].shape != one[second].shape or not one[first].equal(one[second]), (first, second)


def test_depth_changes_no_other_layer() -> None:
    shallow, deep = (ResNetCapsNet(SHAPE, 5, FMAgreement, blocks=(1, 1, last), hidden_capsules=()) for last in (1, 2))
    for network in (shallow, deep):
        initialise(network, 3)
    assert deep.capsule_layers[0].transform.weight.equal(shallow.capsule_layers[0].transform.weight)
    assert deep.primary.conv.weight.equal(shallow.primary.conv.weight)


def test_what_a_constructor_set_survives() -> None:
    network = nn.ModuleDict(
        {
            "users": UsersNetwork(SHAPE, 5, FMAgreement),
            "gain": ResNetCapsNet(SHAPE, 5, FMAgreement, blocks=(1, 1, 1), hidden_capsules=(), vote_gain=0.25),
        }
    )
    initialise(network, 1)
    assert network["users"].last.weight.equal(torch.eye(5))
    assert network["gain"].capsule_layers[0].vote_norm.norm.weight.eq(0.25).all()


def test_the_global_generator_is_left_alone() -> None:
    network = CapsNet(SHAPE, 5, EMRouting, filters=8, groups=2)
    before = torch.get_rng_state()
    initialise(network, 1)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("layer", "std", "most"),
    [
        (partial(Conv2d, 64, 64, 5), math.sqrt(2 / 1600), math.inf),
        (partial(Conv2d, 64, 64, 5, init="keras"), math.sqrt(2 / 1600), 2 / 0.8796 * math.sqrt(2 / 1600)),
        (partial(Conv2d, 1, 64, 9, he=False), math.sqrt(1 / 3 / 81), math.sqrt(1 / 81)),
        (partial(Conv2d, 1, 64, 9, he=False, init="keras"), 0.0195, math.sqrt(6 / 65 / 81)),
        (partial(Conv2d, 1, 256, 9, he=False, init="keras"), 0.0098, math.sqrt(6 / 257 / 81)),
        (partial(Conv2d, 3, 64, 9, he=False, init="keras"), 0.0192, math.sqrt(6 / 67 / 81)),
        (partial(Linear, 160, 512), math.sqrt(1 / 3 / 160), math.sqrt(1 / 160)),
        (partial(Linear, 160, 512, init="keras"), math.sqrt(2 / 672), math.sqrt(6 / 672)),
        (partial(ConvTranspose2d, 64, 32, 5, 2), math.sqrt(2 / 800), math.inf),
        (partial(ConvTranspose2d, 64, 32, 5, 2, init="keras"), math.sqrt(2 / 800), 2 / 0.8796 * math.sqrt(2 / 800)),
    ],
)
def test_distributions(layer: Callable[[], nn.Module], std: float, most: float) -> None:
    made = layer()
    assert made.weight.std().item() == pytest.approx(std, rel=0.03)
    assert made.weight.abs().max().item() <= most * 1.0001


@pytest.mark.parametrize("init", ["torch", "keras"])
def test_biases_are_0_in_keras_only(init: LayerInit) -> None:
    for layer in (Conv2d(1, 8, 3, bias=True, init=init), Linear(8, 8, init), ConvTranspose2d(8, 8, 5, 1, init)):
        assert layer.bias is not None
        assert bool(layer.bias.any()) == (init == "torch")


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 10), (10, 7)])
def test_tensorflow_pads_an_even_input_after_more_than_before(kernel_size: int, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    symmetric = Conv2d(3, 4, kernel_size, stride=2, padding=kernel_size // 2)
    tensorflow = Conv2d(3, 4, kernel_size, stride=2, padding=kernel_size // 2, stride_padding="tensorflow")
    tensorflow.load_state_dict(symmetric.state_dict())
    half = kernel_size // 2
    rows, columns = ((max(0, half - (side % 2 == 0)), half) for side in size)
    expected = nn.functional.conv2d(nn.functional.pad(images, (*columns, *rows)), symmetric.weight, stride=2)
    assert tensorflow(images).shape == symmetric(images).shape
    torch.testing.assert_close(tensorflow(images), expected)


def test_tensorflow_pads_each_axis_by_its_own_kernel() -> None:
    images = torch.randn(2, 2, 8, 8)
    conv = Conv2d(2, 4, (3, 5), 2, (1, 2), groups=2, stride_padding="tensorflow")
    padded = nn.functional.pad(images, (1, 2, 0, 1))
    torch.testing.assert_close(conv(images), nn.functional.conv2d(padded, conv.weight, stride=2, groups=2))


@pytest.mark.parametrize(("kernel_size", "padding"), [(3, 0), (3, 2), (4, 2), ((3, 5), 1)])
def test_tensorflow_refuses_padding_that_is_not_half_the_kernel(kernel_size: Any, padding: int) -> None:
    with pytest.raises(ValueError, match=r"padding=kernel_size // 2, got kernel_size=.* and padding=.\Z"):
        Conv2d(1, 1, kernel_size, 2, padding, stride_padding="tensorflow")
    Conv2d(1, 1, kernel_size, 1, padding, stride_padding="tensorflow")


REFUSALS = """
from capsbench.capsules import DeconvDecoder, DenseDecoder
from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import FMAgreement

image = (1, 20, 20)
for make in (
    lambda: CapsNet(image, 5, FMAgreement, conv_init="he"),
    lambda: ResNetCapsNet(image, 5, FMAgreement, conv_init="he"),
    lambda: ResNetCapsNet(image, 5, FMAgreement, stride_padding="same"),
    lambda: ResNetCapsNet(image, 5, FMAgreement, shortcut="none"),
    lambda: ResNetCapsNet(image, 5, FMAgreement, primary_norm="each"),
    lambda: ResNetCapsNet(image, 5, FMAgreement, primary_norm="none"),
    lambda: DeconvDecoder(image, 5, 16, init="he"),
    lambda: DenseDecoder(image, 5, 16, init="he"),
    lambda: FMAgreement(output="mean"),
):
    try:
        make()
    except ValueError as error:
        print(error)
"""


def test_unknown_values_are_refused() -> None:
    # In a process of its own, which does not check types on import.
    done = subprocess.run([sys.executable, "-c", REFUSALS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "init must be torch or keras, got 'he'",
        "init must be torch or keras, got 'he'",
        "stride_padding must be symmetric or tensorflow, got 'same'",
        "shortcut must be activated or raw, got 'none'",
        "primary_norm must be shared or per_capsule, got 'each'",
        "primary_norm must be shared or per_capsule, got 'none'",
        "init must be torch or keras, got 'he'",
        "init must be torch or keras, got 'he'",
        "output must be sum or squash, got 'mean'",
    ]
