"""3-D dynamic routing against golden numbers and by its properties."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from capsbench.capsules import ConvRouting3d


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "routing" / "systems.npz")
    return {name.removeprefix("deep_"): torch.from_numpy(arrays[name]) for name in arrays if name.startswith("deep")}


def as_golden(golden: dict[str, Tensor], iterations: int = 3) -> ConvRouting3d:
    """A layer with the golden weights."""
    rows, columns, child_dim, parents, pose_dim = golden["weight"].shape
    layer = ConvRouting3d(child_dim, parents, pose_dim, iterations=iterations).double()
    layer.conv.weight.data = golden["weight"].reshape(rows, columns, child_dim, -1).permute(3, 2, 0, 1)
    layer.bias.data = golden["bias"].view_as(layer.bias)
    return layer


def children_of(golden: dict[str, Tensor]) -> Tensor:
    return golden["child_poses"].permute(0, 3, 4, 1, 2)  # (batch, child, d, row, column)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_golden_numbers(golden: dict[str, Tensor], iterations: int) -> None:
    layer, children = as_golden(golden, iterations), children_of(golden)
    for dtype, atol in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
        parents = layer.to(dtype)(children.to(dtype)).permute(0, 3, 4, 1, 2)
        torch.testing.assert_close(parents.double(), golden[f"deep{iterations}_poses"], atol=atol, rtol=0)


def test_votes_of_a_child_type_are_a_convolution_of_its_map(golden: dict[str, Tensor]) -> None:
    layer, children = as_golden(golden), children_of(golden)
    votes = layer.votes(children)
    torch.testing.assert_close(votes.permute(0, 4, 5, 1, 2, 3), golden["votes"], atol=1e-8, rtol=0)
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, bias=False).double()
    conv.weight.data = layer.conv.weight.data
    for number in range(children.shape[1]):
        torch.testing.assert_close(votes[:, number].flatten(1, 2), conv(children[:, number]))


def test_child_types_have_no_order(golden: dict[str, Tensor]) -> None:
    layer, children = as_golden(golden), children_of(golden)
    torch.testing.assert_close(layer(children[:, [2, 0, 1]]), layer(children))


def test_shifting_the_map_by_a_place_shifts_the_parents() -> None:
    layer = ConvRouting3d(4, 3, 5)
    layer.bias.data.zero_()
    children = torch.zeros(1, 6, 4, 9, 8)
    children[..., 3:5, 2:5] = torch.randn(1, 6, 4, 2, 3)
    here, there = (layer(moved) for moved in (children, children.roll((1, 2), dims=(3, 4))))
    assert here.abs().max() > 0
    torch.testing.assert_close(there, here.roll((1, 2), dims=(3, 4)))


def test_a_parents_whole_map_is_shorter_than_1() -> None:
    parents = ConvRouting3d(4, 3, 5)(10 * torch.randn(2, 6, 4, 3, 3, generator=torch.Generator().manual_seed(0)))
    lengths = parents.flatten(2).norm(dim=2)
    assert 0 < lengths.min() <= lengths.max() < 1


@pytest.mark.parametrize("iterations", [0, True])
def test_iterations_must_be_a_positive_integer(iterations: int) -> None:
    with pytest.raises(ValueError, match=rf"iterations must be an integer of at least 1, got {iterations}"):
        ConvRouting3d(4, 3, 5, iterations=iterations)


def test_poses_of_other_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \(batch, child, 8 dimensions, row, column\), got \(2, 8, 4, 5, 6\)"):
        ConvRouting3d(8, 4, 16)(torch.randn(2, 8, 4, 5, 6))
