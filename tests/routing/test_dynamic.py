"""Dynamic routing against golden numbers and by its properties."""

import pytest
import torch

from capsbench.routing import DynamicRouting, squash


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_golden_numbers(golden: dict[str, torch.Tensor], iterations: int) -> None:
    parents = DynamicRouting(iterations)(golden["votes"])
    torch.testing.assert_close(parents.poses, golden[f"dynamic{iterations}_poses"], atol=1e-4, rtol=0)
    torch.testing.assert_close(parents.activations, golden[f"dynamic{iterations}_squash_factor"], atol=1e-4, rtol=0)


def test_one_iteration_is_uniform_coupling() -> None:
    votes = torch.randn(2, 7, 3, 4)
    torch.testing.assert_close(DynamicRouting(1)(votes).poses, squash(votes.sum(dim=1) / 3))


def test_the_activation_is_the_length_of_the_pose() -> None:
    parents = DynamicRouting(3)(torch.randn(2, 7, 3, 4))
    torch.testing.assert_close(parents.activations, parents.poses.norm(dim=-1))


def test_agreement_sharpens_with_iterations() -> None:
    votes = torch.randn(1, 20, 2, 8, generator=torch.Generator().manual_seed(0))
    votes[:, :, 1] = votes[:, :1, 1]  # the children agree on the second parent
    once, thrice = (DynamicRouting(iterations)(votes).activations[0, 1] for iterations in (1, 3))
    assert thrice > once


def test_detach_changes_the_gradient_and_nothing_else() -> None:
    votes = torch.randn(2, 7, 3, 4, requires_grad=True)
    gradients, poses = [], []
    for detach in (False, True):
        parents = DynamicRouting(3, detach=detach)(votes)
        poses.append(parents.poses.detach())
        gradients += torch.autograd.grad(parents.activations.sum(), votes)
    torch.testing.assert_close(poses[0], poses[1])
    assert not torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize("iterations", [0, -1, True])
def test_iterations_must_be_a_positive_integer(iterations: int) -> None:
    with pytest.raises(ValueError, match=rf"^iterations must be an integer of at least 1, got {iterations}"):
        DynamicRouting(iterations)


def test_a_leaky_child_may_go_nowhere() -> None:
    votes = torch.randn(2, 7, 3, 4)
    torch.testing.assert_close(DynamicRouting(1, leaky=True)(votes).poses, squash(votes.sum(dim=1) / 4))
    nowhere = torch.cat([votes, torch.zeros(2, 7, 1, 4)], dim=2)  # a parent whose logits stay 0
    torch.testing.assert_close(DynamicRouting(3, leaky=True)(votes).poses, DynamicRouting(3)(nowhere).poses[:, :3])


def test_biases_are_added_before_squash() -> None:
    votes = torch.randn(2, 7, 3, 4)
    router = DynamicRouting(1, bias=True, num_parents=3, pose_dim=4)
    torch.testing.assert_close(router(votes).poses, squash(votes.sum(dim=1) / 3 + 0.1))
    thrice = DynamicRouting(3, bias=True, num_parents=3, pose_dim=4)
    thrice.bias.data.zero_()
    torch.testing.assert_close(thrice(votes).poses, DynamicRouting(3)(votes).poses)
    thrice(votes).activations.sum().backward()
    assert thrice.bias.grad.abs().min() > 0


def test_detach_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="detach has no effect with iterations=1; leave it out"):
        DynamicRouting(1, detach=True)


def test_biases_are_of_known_parents() -> None:
    with pytest.raises(ValueError, match="bias=True needs num_parents and pose_dim"):
        DynamicRouting(3, bias=True)
