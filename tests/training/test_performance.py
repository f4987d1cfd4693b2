"""Faster ways to the same numbers."""

import copy
import json
import platform
import subprocess
import sys
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import FMAgreement
from capsbench.training import compile_networks, use_channels_last


def network() -> ResNetCapsNet:
    torch.manual_seed(0)
    return ResNetCapsNet((1, 16, 16), 3, FMAgreement, blocks=(1, 1, 1), hidden_capsules=(5,))


def gradients(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(images).activations.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_channels_last_gives_the_same_gradients() -> None:
    images = torch.rand(6, 1, 16, 16)
    plain, ours = network().double(), network().double()
    use_channels_last(ours)
    assert ours.backbone[0].weight.is_contiguous(memory_format=torch.channels_last)
    expected = gradients(plain, images.double())
    for name, gradient in gradients(ours, images.double()).items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.engines
def test_compiled_gives_the_same_gradients_under_the_same_names() -> None:
    images = torch.rand(6, 1, 17, 17)
    plain = CapsNet((1, 17, 17), 3, FMAgreement, filters=8, groups=2)
    ours = copy.deepcopy(plain)
    compile_networks("default", ours, None)
    expected = gradients(plain, images)
    found = gradients(ours, images)
    assert list(ours.state_dict()) == list(plain.state_dict())
    for name, gradient in found.items():
        assert (gradient - expected[name]).abs().max() <= 1e-3 * expected[name].abs().max() + 1e-6


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Switch off the checks of shapes that only tests have: the compiler stops at them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_network_is_compiled_as_a_whole() -> None:
    torch.compiler.reset()
    counters.clear()
    ours = network()
    with torch.compiler.set_stance("default", force_backend="eager"):
        compile_networks("default", ours)
        ours(torch.rand(6, 1, 16, 16))
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


class Broken(nn.Module):
    """A layer that is compiled in two parts, anew for each number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.number
        torch._dynamo.graph_break()
        return x * self.number


@pytest.mark.filterwarnings("ignore:Graph break")
def test_no_layer_of_a_deep_network_is_left_out() -> None:
    torch.compiler.reset()
    ours = nn.Sequential(*(Broken(number) for number in range(12)))
    with (
        torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True),
        torch.compiler.set_stance("default", force_backend="eager"),
    ):
        compile_networks("default", ours)
        ours(torch.ones(2))


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="compile must be null or one of default, reduce-overhead"):
        compile_networks("fast", network())


FREED = """
import resource, torch
from capsbench.training import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.zeros(5 * 2**20) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print([new_pages() for _ in range(12)])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the library of GNU/Linux")
def test_freed_memory_is_used_again() -> None:
    """4 x 20 MiB are 20,480 pages, or 40 large ones where the system has those; the first rounds may find no place."""
    ended = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    pages = json.loads(ended.stdout)
    assert pages[0] >= 40
    assert max(pages[4:]) < 5
