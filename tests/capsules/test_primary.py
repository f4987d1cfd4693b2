"""Feature maps to capsules."""

import pytest
import torch

from capsbench.capsules import PrimaryCapsules


@pytest.mark.parametrize("batch_norm", [True, False])
def test_shapes_and_range(batch_norm: bool) -> None:
    layer = PrimaryCapsules(16, groups=3, pose_dim=8, kernel_size=5, padding=2, batch_norm=batch_norm)
    capsules = layer(torch.randn(2, 16, 7, 6))
    assert capsules.poses.shape == (2, layer.num_capsules(7, 6), 8) == (2, 4 * 3 * 3, 8)
    assert capsules.activations.shape == (2, 36)
    torch.testing.assert_close(capsules.activations, capsules.poses.norm(dim=-1))
    assert capsules.activations.max() < 1


def test_a_capsule_is_a_run_of_channels_at_one_place() -> None:
    layer = PrimaryCapsules(4, groups=2, pose_dim=3, kernel_size=1, stride=1)
    features = torch.randn(1, 4, 5, 5)
    poses = layer(features).poses.view(5, 5, 2, 3)
    second = layer.conv(features)[0, 3:, 2, 4]
    torch.testing.assert_close(poses[2, 4, 1] / poses[2, 4, 1].norm(), second / second.norm())


def test_batch_norm_is_per_pose_dimension() -> None:
    assert PrimaryCapsules(16, groups=3, pose_dim=8, kernel_size=5, batch_norm=True).norm.num_features == 8


def test_too_small_a_map_has_no_capsules() -> None:
    assert PrimaryCapsules(16, groups=3, pose_dim=8, kernel_size=9).num_capsules(8, 20) == 0


def test_black_images_have_finite_gradients() -> None:
    layer = PrimaryCapsules(16, groups=3, pose_dim=8, kernel_size=5)
    torch.nn.init.zeros_(layer.conv.bias)
    features = torch.zeros(2, 16, 9, 9, requires_grad=True)
    capsules = layer(features)
    (capsules.poses.sum() + capsules.activations.sum()).backward()
    assert torch.isfinite(features.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
