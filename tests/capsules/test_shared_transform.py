"""Transforms that all places share: golden votes, and the same by factors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from capsbench.capsules import SharedMatrixTransform
from capsbench.routing import LazyVotes

GRID, TYPES, PARENTS = (5, 6), 3, 5


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "routing" / "systems.npz")
    return {name: torch.from_numpy(arrays[name]) for name in ("conv_child_poses", "shared_weight", "shared_votes")}


def test_golden_votes(golden: dict[str, Tensor]) -> None:
    transform = SharedMatrixTransform(GRID, TYPES, PARENTS, 16).double()
    transform.weight.data = golden["shared_weight"]
    children = golden["conv_child_poses"][:1].flatten(1, 3)
    for votes in (transform(children), LazyVotes(*transform.factors(children)).materialize()):
        torch.testing.assert_close(votes, golden["shared_votes"], atol=1e-8, rtol=0)


def test_without_coordinates_places_are_alike() -> None:
    transform = SharedMatrixTransform(GRID, TYPES, PARENTS, 16, coordinate_scale=0.0)
    poses = torch.randn(2, 1, TYPES, 16).expand(-1, 30, -1, -1).reshape(2, 90, 16)
    votes = transform(poses).view(2, 30, TYPES, PARENTS, 16)
    torch.testing.assert_close(votes, votes[:, :1].expand_as(votes))
    torch.testing.assert_close(LazyVotes(*transform.factors(poses)).materialize(), votes.flatten(1, 2))


def test_poses_of_one_dimension_have_rows_only() -> None:
    transform = SharedMatrixTransform((2, 4), 1, 3, 1)
    assert transform.coordinates().flatten().tolist() == [0.25] * 4 + [0.75] * 4


def test_its_text_has_the_children_of_all_places() -> None:
    assert "children=144, parents=10, pose_dim=16" in repr(SharedMatrixTransform((3, 3), 16, 10, 16))
