"""Inverted dot-product attention against golden numbers and by its properties."""

import pytest
import torch
from torch import Tensor

from capsbench.routing import InvertedAttention


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_golden_numbers(systems: dict[str, Tensor], iterations: int) -> None:
    router = InvertedAttention(16, iterations=iterations).double()
    router.gain.data, router.bias.data = systems["inverted_gain"], systems["inverted_bias"]
    router.readout.data, router.readout_bias.data = systems["inverted_readout"], systems["inverted_readout_bias"]
    for parents, atol in ((router(systems["votes"]), 1e-8), (router.float()(systems["votes"].float()), 1e-4)):
        for name, found in zip(("poses", "activations"), parents, strict=True):
            torch.testing.assert_close(found.double(), systems[f"inverted{iterations}_{name}"], atol=atol, rtol=0)


def test_one_iteration_is_uniform_coupling() -> None:
    votes = torch.randn(2, 7, 3, 4)
    mean = votes.sum(dim=1) / 3
    poses = InvertedAttention(4, iterations=1)(votes).poses
    torch.testing.assert_close(poses, torch.nn.functional.layer_norm(mean, (4,)))


def test_parents_that_feed_capsules_are_all_active_and_have_no_readout() -> None:
    router = InvertedAttention(4, feeds_capsules=True)
    assert router(torch.randn(2, 7, 3, 4)).activations.unique().tolist() == [1.0]
    assert {name for name, _ in router.named_parameters()} == {"gain", "bias"}


@pytest.mark.parametrize("iterations", [0, True])
def test_iterations_must_be_a_positive_integer(iterations: int) -> None:
    with pytest.raises(ValueError, match=rf"^iterations must be an integer of at least 1, got {iterations}"):
        InvertedAttention(4, iterations=iterations)
