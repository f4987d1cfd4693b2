"""Votes from poses."""

import math

import pytest
import torch

from capsbench.capsules import FullTransform, MatrixTransform


def test_full_transform_multiplies_each_pose_by_its_matrix() -> None:
    transform = FullTransform(num_children=5, num_parents=3, child_dim=4, pose_dim=6)
    poses = torch.randn(2, 5, 4)
    votes = transform(poses)
    assert votes.shape == (2, 5, 3, 6)
    torch.testing.assert_close(votes[1, 4, 2], poses[1, 4] @ transform.weight[4, 2])


def test_matrix_transform_multiplies_matrices() -> None:
    transform = MatrixTransform(num_children=5, num_parents=3, pose_dim=16)
    poses = torch.randn(2, 5, 16)
    votes = transform(poses)
    assert votes.shape == (2, 5, 3, 16)
    torch.testing.assert_close(votes[1, 4, 2].view(4, 4), poses[1, 4].view(4, 4) @ transform.weight[4, 2])


@pytest.mark.parametrize("pose_dim", [0, -4, 12, 15])
def test_matrix_transform_needs_a_square(pose_dim: int) -> None:
    with pytest.raises(ValueError, match=f"pose_dim must be a square number .* got {pose_dim}"):
        MatrixTransform(5, 3, pose_dim)


def test_weights_start_glorot_normal() -> None:
    torch.manual_seed(0)
    full = {init: FullTransform(100, 10, 8, 16, init).weight.std().item() for init in ("pair", "kernel")}
    matrix = {init: MatrixTransform(100, 10, 16, init).weight.std().item() for init in ("pair", "kernel")}
    assert full["pair"] == pytest.approx(math.sqrt(2 / 24), rel=0.05)
    assert full["kernel"] == pytest.approx(math.sqrt(2 / (100 * (8 + 160))), rel=0.05)
    assert matrix["pair"] == pytest.approx(math.sqrt(2 / 8), rel=0.05)
    assert matrix["kernel"] == pytest.approx(math.sqrt(2 / (1000 * 8)), rel=0.05)
