"""DeepCaps: its sizes are the source's, and any router fits."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from capsbench.benchmarks.measure import peak_bytes
from capsbench.models import DeepCaps
from capsbench.models.deepcaps import CapsuleConv
from capsbench.routing import DynamicRouting

Small = partial(DeepCaps, filters=16, types=4)


@pytest.mark.parametrize(
    ("image_shape", "parameters"), [((1, 28, 28), 8_441_600), ((3, 32, 32), 8_443_904), ((3, 64, 64), 13_359_104)]
)
def test_parameter_counts(image_shape: tuple[int, int, int], parameters: int) -> None:
    net = DeepCaps(image_shape, 10, DynamicRouting)
    assert sum(p.numel() for p in net.parameters()) == parameters
    biased = Small(image_shape, 10, partial(DynamicRouting, bias=True)).class_capsules.router
    assert sum(p.numel() for p in biased.parameters()) == 320  # the authors' code has them
    assert sum(p.numel() for p in net.cells[3].skip.parameters()) == 18_432 + 32 * 8


@pytest.mark.parametrize(("size", "sides"), [(28, [14, 7, 4, 2]), (32, [16, 8, 4, 2]), (64, [32, 16, 8, 4])])
def test_maps(size: int, sides: list[int]) -> None:
    net = Small((1, size, size), 10, DynamicRouting)
    shapes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda _, __, parents: shapes.append(tuple(parents.shape[1:])))
    net(torch.rand(1, 1, size, size))
    assert shapes == [(4, dim, side, side) for dim, side in zip((4, 8, 8, 8), sides, strict=True)]
    assert net.class_capsules.transform.num_children == 4 * (sides[2] ** 2 + sides[3] ** 2)


def test_images_to_class_capsules(check_architecture: Callable[..., None]) -> None:
    check_architecture(partial(Small, pose_dim=16))


def test_class_capsules_read_the_last_two_maps_the_last_first() -> None:
    net = Small((1, 28, 28), 10, DynamicRouting).eval()
    seen = {}
    net.cells[2].register_forward_hook(lambda _, __, parents: seen.update(third=parents))
    net.cells[3].register_forward_hook(lambda _, __, parents: seen.update(last=parents))
    net.class_capsules.register_forward_pre_hook(lambda _, given: seen.update(children=given[0].poses))
    net(torch.rand(1, 1, 28, 28))
    children = seen["children"][0]
    for number, (row, column, kind) in {0: (0, 0, 0), 7: (0, 1, 3), 8: (1, 0, 0)}.items():
        assert children[number].equal(seen["last"][0, kind, :, row, column])
    assert children[2 * 2 * 4 + 1].equal(seen["third"][0, 1, :, 0, 0])


def test_capsules_are_shorter_than_1() -> None:
    net = Small((1, 28, 28), 10, DynamicRouting)
    lengths = []
    for module in net.modules():
        if isinstance(module, CapsuleConv):
            module.register_forward_hook(lambda _, __, parents: lengths.append(parents.norm(dim=2).max()))
    net.class_capsules.register_forward_pre_hook(lambda _, given: lengths.append(given[0].activations.max()))
    lengths.append(net(100 * torch.randn(4, 1, 28, 28)).activations.max())
    assert len(lengths) == 4 * 4 - 1 + 2
    assert 0 < min(lengths) <= max(lengths) < 1


def test_a_gradient_reaches_every_cell() -> None:
    net = Small((1, 28, 28), 10, DynamicRouting)
    net(torch.rand(4, 1, 28, 28)).activations.sum().backward()
    assert [name for name, weight in net.named_parameters() if not weight.grad.abs().max() > 0] == []


def test_the_smallest_image() -> None:
    net = Small((1, 9, 9), 10, DynamicRouting)
    assert net.class_capsules.transform.num_children == 4 * (2 * 2 + 1)
    net(torch.rand(2, 1, 9, 9))
    with pytest.raises(ValueError, match=r"DeepCaps needs images of at least 9×9 pixels .* got 8×40; use larger"):
        Small((1, 8, 40), 10, DynamicRouting)


def test_a_training_step_of_128_images_takes_less_than_2_gb() -> None:
    net = DeepCaps((3, 32, 32), 10, DynamicRouting)
    images = torch.rand(8, 3, 32, 32)
    peak = peak_bytes(lambda: net(images).activations.sum().backward(), torch.device("cpu"))
    weights = 4 * sum(p.numel() for p in net.parameters())
    assert peak / len(images) * 128 + weights < 2e9


def test_learns_to_tell_two_images_apart(learns: Callable[..., bool]) -> None:
    assert learns(lambda: Small((1, 20, 20), 2, DynamicRouting), steps=25)
