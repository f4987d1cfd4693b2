"""What every architecture promises."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from capsbench.routing import (
    AttentionRouting,
    DynamicRouting,
    EMRouting,
    FMAgreement,
    HitOrMiss,
    InvertedAttention,
    Router,
    VBRouting,
)

ROUTERS = [FMAgreement, DynamicRouting, EMRouting, AttentionRouting, InvertedAttention, VBRouting, HitOrMiss]


@pytest.fixture(params=ROUTERS)
def router(request: pytest.FixtureRequest) -> type[Router]:
    return request.param


@pytest.fixture(params=[(1, 28, 28), (3, 17, 23)], ids=str)
def image_shape(request: pytest.FixtureRequest) -> tuple[int, int, int]:
    return request.param


@pytest.fixture
def check_architecture(router: type[Router], image_shape: tuple[int, int, int]) -> Callable[..., None]:
    """Check that images become class capsules, and that every parameter gets a finite gradient."""

    def check(architecture: Callable[..., nn.Module]) -> None:
        model = architecture(image_shape, 5, router)
        capsules = model(torch.randn(2, *image_shape))
        assert capsules.poses.shape == (2, 5, 16)
        assert capsules.activations.shape == (2, 5)
        capsules.activations.sum().backward()
        for name, parameter in model.named_parameters():
            if "beta_a" not in name:
                assert parameter.grad is not None, name
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name

    return check


@pytest.fixture
def learns() -> Callable[..., bool]:
    """Train a network of two classes to tell two images of 20×20 apart; gradients stay finite meanwhile."""

    def learns(make: Callable[[], nn.Module], steps: int) -> bool:
        torch.manual_seed(0)
        net = make()
        images, labels = torch.rand(2, 1, 20, 20), torch.tensor([0, 1])
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.multi_margin_loss(net(images).activations, labels, p=2, margin=0.5)
            loss.backward()
            assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
            optimizer.step()
        return net(images).activations.argmax(dim=1).equal(labels)

    return learns
