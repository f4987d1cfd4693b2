"""ResNet: the backbone of the ResNet-capsule network without capsules."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch

from capsbench.models import ResNet, ResNetCapsNet
from capsbench.routing import FMAgreement, no_router


@pytest.mark.parametrize(
    ("blocks", "on_color", "on_grey"),
    [
        ((3, 3, 3), 272_282, 271_994),
        ((8, 8, 8), 758_362, 758_074),
        ((9, 9, 9), 855_578, 855_290),
        ((1, 1, 1), 77_850, 77_562),
    ],
)
def test_parameter_counts(blocks: Sequence[int], on_color: int, on_grey: int) -> None:
    for image_shape, parameters in (((3, 32, 32), on_color), ((1, 28, 28), on_grey)):
        net = ResNet(image_shape, 10, no_router, blocks=blocks)
        assert sum(p.numel() for p in net.parameters()) == parameters


def test_the_backbone_is_that_of_the_capsule_network() -> None:
    ours = ResNet((3, 32, 32), 10, no_router, blocks=(1, 1, 1)).backbone.state_dict()
    theirs = ResNetCapsNet((3, 32, 32), 10, FMAgreement, blocks=(1, 1, 1)).backbone.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {n: value.shape for n, value in theirs.items()}


def test_a_logit_is_the_sum_of_its_pose_and_a_bias() -> None:
    net = ResNet((1, 28, 20), 5, no_router, blocks=(1, 1, 1)).eval()
    classes = net(torch.rand(2, 1, 28, 20))
    assert classes.poses.shape == (2, 5, 64)
    torch.testing.assert_close(classes.poses.sum(dim=-1) + net.linear.bias, classes.activations)


@pytest.mark.parametrize("router", [FMAgreement, partial(FMAgreement, scale=1.0)])
def test_a_router_is_refused(router: object) -> None:
    with pytest.raises(ValueError, match="ResNet has no capsules to route; set router=no_router"):
        ResNet((1, 28, 28), 10, router)


def test_a_capsule_network_refuses_to_have_none() -> None:
    with pytest.raises(ValueError, match="a capsule layer needs a router, got no_router"):
        ResNetCapsNet((1, 28, 28), 10, partial(no_router), blocks=(1, 1, 1))
