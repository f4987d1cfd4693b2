"""The plain einsum computes what our layers compute."""

from functools import partial

import pytest
import torch

from capsbench.benchmarks.einsum import as_einsum, with_einsum
from capsbench.benchmarks.layer import forward_and_backward
from capsbench.capsules import CapsuleLayer, Capsules, FullTransform, MatrixTransform, RouterFactory
from capsbench.models import CapsNet, ResNetCapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement

ROUTERS = [
    FMAgreement,
    partial(FMAgreement, scale=1.0, normalize_pose=False),
    *(partial(DynamicRouting, iterations=number) for number in (1, 2, 3)),
]


@pytest.mark.parametrize("router", ROUTERS)
def test_results_and_gradients_are_those_of_the_layer(router: RouterFactory) -> None:
    layer = CapsuleLayer(FullTransform(7, 3, 4, 8), router).double()
    poses = torch.randn(5, 7, 4, dtype=torch.float64, requires_grad=True)
    children = Capsules(poses, torch.rand(5, 7, dtype=torch.float64))
    written = as_einsum(layer)
    assert written is not None
    for ours, theirs in zip(layer(children), written(children), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(
        forward_and_backward(layer, children), forward_and_backward(written, children), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_other_layers_are_not_written_this_way() -> None:
    full, matrix = partial(FullTransform, 7, 3, 4, 8), partial(MatrixTransform, 7, 3, 4)
    assert as_einsum(CapsuleLayer(full(), EMRouting)) is None
    assert as_einsum(CapsuleLayer(full(), partial(FMAgreement, normalize_votes=False))) is None
    assert as_einsum(CapsuleLayer(full(), partial(DynamicRouting, detach=True))) is None
    assert as_einsum(CapsuleLayer(full(), FMAgreement, vote_norm="shared")) is None
    assert as_einsum(CapsuleLayer(matrix(), FMAgreement)) is None
    assert with_einsum(ResNetCapsNet((1, 28, 28), 10, FMAgreement, blocks=(1, 1, 1))) is None


def test_a_network_with_it_computes_the_same() -> None:
    network, images = CapsNet((1, 28, 28), 10, FMAgreement, filters=8, groups=1).eval(), torch.rand(2, 1, 28, 28)
    before = network(images)
    written = with_einsum(network)
    assert written is not None
    for ours, theirs in zip(before, written(images), strict=True):
        torch.testing.assert_close(ours, theirs)
