"""Matrix capsules: sizes are the source's, any router fits, and a training step takes little memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from capsbench.models import MatrixCapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement
from capsbench.training import SpreadLoss

Small = partial(MatrixCapsNet, filters=64, primary_types=8, hidden_types=(16, 16))


@pytest.mark.parametrize(
    ("architecture", "image_shape", "classes", "parameters"),
    [
        (Small, (1, 28, 28), 10, 68_308),
        (Small, (3, 32, 32), 10, 71_508),
        (Small, (1, 32, 32), 5, 67_018),
        (Small, (2, 32, 32), 5, 68_618),
        (MatrixCapsNet, (1, 28, 28), 10, 318_420),
        (partial(MatrixCapsNet, filters=256), (3, 32, 32), 10, 458_900),
        (partial(Small, first_padding=2, primary_bias=True), (1, 32, 32), 5, 67_154),
    ],
)
def test_parameter_counts(
    architecture: Callable[..., MatrixCapsNet], image_shape: tuple[int, int, int], classes: int, parameters: int
) -> None:
    assert sum(p.numel() for p in architecture(image_shape, classes, EMRouting).parameters()) == parameters


def test_squashed_capsules_tell_images_apart_where_votes_are_normalised() -> None:
    def spread(**settings: Any) -> float:
        torch.manual_seed(0)
        lengths = Small((1, 28, 28), 10, partial(DynamicRouting, iterations=1), **settings)(images).activations
        return float((lengths.std(dim=0) / lengths.mean(dim=0)).mean())

    images = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert 20 * spread() < spread(vote_norm="shared")


@pytest.mark.parametrize(("size", "grids"), [(28, [12, 5, 3]), (32, [14, 6, 4]), (64, [30, 14, 12])])
def test_maps(size: int, grids: list[int]) -> None:
    layers = Small((1, size, size), 10, EMRouting).capsule_layers
    maps = [layers[0].grid, layers[0].parent_grid, layers[1].parent_grid]
    assert maps == [(side, side) for side in grids]


def test_images_to_class_capsules(check_architecture: Callable[..., None]) -> None:
    check_architecture(Small)


@pytest.mark.parametrize(("first_padding", "least"), [(0, 17), (2, 13)])
def test_the_smallest_image(first_padding: int, least: int) -> None:
    net = Small((1, least, least), 5, FMAgreement, first_padding=first_padding)
    assert net.capsule_layers[1].parent_grid == (1, 1)
    with pytest.raises(ValueError, match=f"needs images of at least {least}×{least} pixels, got {least - 1}×40"):
        Small((1, least - 1, 40), 5, FMAgreement, first_padding=first_padding)


def test_where_parents_compete() -> None:
    def competition(router: Any, **settings: Any) -> list[str]:
        return [layer.competition for layer in Small((1, 28, 28), 10, router, **settings).capsule_layers[:2]]

    assert competition(EMRouting) == ["all", "all"]
    assert competition(EMRouting, competition="place") == ["place", "place"]
    assert competition(DynamicRouting) == competition(FMAgreement) == ["place", "place"]


@pytest.mark.parametrize("router", [EMRouting, FMAgreement])
def test_learns_to_tell_two_images_apart(learns: Callable[..., bool], router: Any) -> None:
    assert learns(lambda: Small((1, 20, 20), 2, router), steps=40)


@pytest.mark.engines
def test_gradients_of_em_stay_finite_in_training() -> None:
    torch.manual_seed(0)
    net = Small((1, 17, 17), 10, EMRouting)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loss = SpreadLoss()
    centres = torch.rand(10, 1, 17, 17)
    for step in range(200):
        labels = torch.randint(10, (4,))
        images = centres[labels] + 0.1 * torch.randn(4, 1, 17, 17)
        optimizer.zero_grad()
        torch.autograd.backward(loss(net(images).activations, labels, step / 200))
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None), step
        optimizer.step()
