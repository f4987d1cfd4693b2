"""What systems cost: operations against numbers computed by hand, the rest in miniature."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from capsbench.benchmarks import systems
from capsbench.benchmarks.systems import System, benchmark_systems
from capsbench.capsules import RouterFactory
from capsbench.models import CapsNet, DeepCaps, EfficientCapsNet, MatrixCapsNet, ResNet
from capsbench.routing import DynamicRouting, FMAgreement, no_router
from capsbench.training import ClassificationModule, MarginLoss

CPU = torch.device("cpu")
Make = Callable[..., nn.Module]
Light = partial(CapsNet, filters=64, groups=8)
MatrixSmall = partial(MatrixCapsNet, filters=64, primary_types=8, hidden_types=(16, 16))


def system(make: Make, router: RouterFactory, shape: tuple[int, int, int], arch: str = "mine") -> System:
    def module(other: RouterFactory | None) -> ClassificationModule:
        return ClassificationModule(make(shape, 10, other or router), MarginLoss(), torch.optim.Adam, num_classes=10)

    return System(arch, "none" if router is no_router else "fm", "noise", shape, module)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[System], dict[str, float]]:
    """What is counted of a system; nothing is timed."""
    monkeypatch.setattr(systems, "interleaved", lambda ways, repetitions: {way: [1.0] for way in ways})
    monkeypatch.setattr(systems, "peak_bytes", lambda way, device: 0)

    def count(system: System) -> dict[str, float]:
        return {one.quantity: one.median for one in benchmark_systems([system], 1, 1, CPU)}

    return count


@pytest.mark.parametrize(
    ("make", "router", "of_28", "of_32"),
    [
        (partial(ResNet, blocks=(3, 3, 3)), no_router, 31, 41),
        (ResNet, no_router, 85, 112),
        (Light, FMAgreement, 14, None),
        (CapsNet, FMAgreement, 201, 378),
        (MatrixSmall, FMAgreement, 4.746, 7.824),
        (MatrixCapsNet, FMAgreement, 23, 35),
        (EfficientCapsNet, FMAgreement, 30, 45),
        (DeepCaps, FMAgreement, 266, 335),
    ],
)
def test_multiply_adds_of_convolutions_and_transforms(
    make: Make, router: RouterFactory, of_28: float, of_32: float | None, counted: Callable[[System], dict[str, float]]
) -> None:
    for expected, shape in ((of_28, (1, 28, 28)), (of_32, (3, 32, 32))):
        if expected is not None:
            tolerance = 0.5 if isinstance(expected, int) else 0.0005
            assert counted(system(make, router, shape))["multiply-adds"] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("make", "votes"), [(CapsNet, 184_320), (Light, 46_080), (MatrixSmall, 815_616), (EfficientCapsNet, 2_560)]
)
def test_votes(make: Make, votes: int, counted: Callable[[System], dict[str, float]]) -> None:
    assert counted(system(make, FMAgreement, (1, 28, 28)))["votes"] * 1e6 == pytest.approx(votes)


def test_routing_adds_operations_on_elements_alone(counted: Callable[[System], dict[str, float]]) -> None:
    one, three = (counted(system(Light, partial(DynamicRouting, iterations=number), (1, 28, 28))) for number in (1, 3))
    assert one["multiply-adds"] == three["multiply-adds"]
    assert three["operations on elements"] > one["operations on elements"] + 4 * one["votes"]


def test_time_and_memory(find: Callable[..., float]) -> None:
    tiny = partial(ResNet, blocks=(1, 1, 1)), partial(CapsNet, filters=2, groups=1)
    both = [
        system(tiny[0], no_router, (1, 20, 20), "resnet"),
        system(tiny[1], FMAgreement, (1, 20, 20), "capsnet"),
    ]
    found = benchmark_systems(both, repetitions=2, batch_size=4, device=CPU)
    for subject in ("resnet, noise", "capsnet, noise"):
        assert find(found, subject=subject, quantity="peak memory", unit="MB") > 0
        for quantity in ("training step", "evaluation"):
            assert find(found, subject=subject, quantity=quantity, unit="ms") > 0
    assert find(found, subject="resnet, noise", quantity="evaluation", unit="÷ resnet") == 1.0
    small, larger = (benchmark_systems(both[1:], repetitions=1, batch_size=size, device=CPU) for size in (16, 64))
    memory = [find(each, subject="capsnet, noise", quantity="peak memory", unit="MB") for each in (small, larger)]
    assert 3 < memory[1] / memory[0] < 5, "memory is mostly that of the batch"
    assert not [one for one in larger if one.unit.startswith("÷")], "there is nothing to be relative to"
