"""Feature maps to capsules."""

import pytest
import torch

from capsbench.capsules import PrimaryCapsules
from capsbench.capsules.primary import PrimaryNormKind
from capsbench.routing import squashed_norm


@pytest.mark.parametrize("norm", ["none", "shared", "per_capsule"])
def test_shapes_and_range(norm: PrimaryNormKind) -> None:
    layer = PrimaryCapsules(16, groups=3, pose_dim=8, map_size=(7, 6), kernel_size=5, padding=2, norm=norm)
    capsules = layer(torch.randn(2, 16, 7, 6))
    assert capsules.poses.shape == (2, layer.num_capsules, 8) == (2, 4 * 3 * 3, 8)
    assert capsules.activations.shape == (2, 36)
    torch.testing.assert_close(capsules.activations, capsules.poses.norm(dim=-1))
    assert capsules.activations.max() < 1


def test_a_capsule_is_a_run_of_channels_at_one_place() -> None:
    layer = PrimaryCapsules(4, groups=2, pose_dim=3, map_size=(5, 5), kernel_size=1, stride=1)
    features = torch.randn(1, 4, 5, 5)
    poses = layer(features).poses.view(5, 5, 2, 3)
    second = layer.conv(features)[0, 3:, 2, 4]
    torch.testing.assert_close(poses[2, 4, 1] / poses[2, 4, 1].norm(), second / second.norm())


@pytest.mark.parametrize(("norm", "over"), [("shared", (0, 1)), ("per_capsule", 0)])
def test_what_is_normalised_together(norm: PrimaryNormKind, over: int | tuple[int, int]) -> None:
    layer = PrimaryCapsules(16, groups=3, pose_dim=8, map_size=(7, 6), kernel_size=3, norm=norm).double()
    squashed = layer(torch.randn(20, 16, 7, 6, dtype=torch.float64)).poses
    length = squashed.norm(dim=-1, keepdim=True)
    poses = squashed / length * (length / (1 - length)).sqrt()  # before squash
    torch.testing.assert_close(poses.mean(dim=over), torch.zeros_like(poses.mean(dim=over)), atol=1e-9, rtol=0)
    variance = poses.var(dim=over, correction=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=0.1, rtol=0)  # ε takes a little


def test_too_small_a_map_has_no_capsules() -> None:
    assert PrimaryCapsules(16, groups=3, pose_dim=8, map_size=(8, 20), kernel_size=9).num_capsules == 0


def test_black_images_have_finite_gradients() -> None:
    layer = PrimaryCapsules(16, groups=3, pose_dim=8, map_size=(9, 9), kernel_size=5)
    torch.nn.init.zeros_(layer.conv.bias)
    features = torch.zeros(2, 16, 9, 9, requires_grad=True)
    capsules = layer(features)
    (capsules.poses.sum() + capsules.activations.sum()).backward()
    assert torch.isfinite(features.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("norm", ["none", "shared", "per_capsule"])
@pytest.mark.parametrize("shape", [(4, 3, 16, 8), (4, 3, 8, 9), (4, 6, 8, 8)])
def test_another_map_is_refused(norm: PrimaryNormKind, shape: tuple[int, ...]) -> None:
    """Normalised per capsule, a map of twice the size would pass for twice the batch."""
    layer = PrimaryCapsules(3, 4, 8, map_size=(8, 8), kernel_size=3, norm=norm)
    with pytest.raises(ValueError, match=r"this layer takes \(batch, 3 channels, 8, 8\), got"):
        layer(torch.randn(shape))


def test_a_momentum_without_a_norm_is_refused() -> None:
    with pytest.raises(ValueError, match='batch_norm_momentum has no effect with norm="none"; leave it out'):
        PrimaryCapsules(3, 4, 8, map_size=(8, 8), kernel_size=3, batch_norm_momentum=0.1)


def test_the_activation_of_a_rectified_capsule_is_that_of_its_pose() -> None:
    layer = PrimaryCapsules(4, groups=2, pose_dim=3, map_size=(5, 5), kernel_size=3, activation="relu")
    poses, activations = layer(torch.randn(6, 4, 5, 5))
    torch.testing.assert_close(activations, squashed_norm(poses))
    torch.nn.init.constant_(layer.conv.bias, -100.0)
    assert not layer(torch.randn(1, 4, 5, 5)).activations.any()
