"""Faster ways to the same numbers."""

import copy
import json
import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

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
