"""Decoders: an image depends on the chosen pose alone."""

import pytest
import torch
from torch import nn

from capsbench.capsules import DeconvDecoder, DeepCapsDecoder, DenseDecoder

DECODERS = [DeconvDecoder, DenseDecoder, DeepCapsDecoder]


def trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("size", "parameters", "with_statistics"), [(40, 186_145, 199_041), (36, 163_041, 163_041 + 2 * (5184 + 32 + 16))]
)
def test_the_papers_decoder_in_numbers(size: int, parameters: int, with_statistics: int) -> None:
    decoder = DeconvDecoder((1, size, size), 10, 16)
    assert trainable(decoder) == parameters
    statistics = sum(b.numel() for name, b in decoder.named_buffers() if "running" in name)
    assert parameters + statistics == with_statistics


def test_sabours_decoder_in_numbers() -> None:
    assert trainable(DenseDecoder((1, 28, 28), 10, 16)) == 160 * 512 + 512 + 512 * 1024 + 1024 + 1024 * 784 + 784


@pytest.mark.parametrize(("shape", "parameters"), [((1, 28, 28), 58_417), ((3, 32, 32), 66_627), ((3, 64, 64), 67_571)])
def test_the_decoder_of_deepcaps_in_numbers(shape: tuple[int, int, int], parameters: int) -> None:
    assert trainable(DeepCapsDecoder(shape, 10, 32)) == parameters


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 32, 32), (1, 28, 36)])
def test_one_image_per_chosen_class(kind: type[nn.Module], shape: tuple[int, int, int]) -> None:
    images = kind(shape, 5, 9)(torch.randn(4, 5, 9), torch.tensor([[0, 1], [2, 3], [4, 0], [1, 1]]))
    assert images.shape == (4, 2, *shape)
    assert images.min() >= 0
    assert kind is DeepCapsDecoder or images.max() <= 1


@pytest.mark.parametrize("kind", DECODERS)
def test_only_the_chosen_pose_is_seen(kind: type[nn.Module]) -> None:
    decoder = kind((1, 8, 8), 3, 4).eval()
    poses, chosen = torch.randn(2, 3, 4), torch.tensor([[0], [2]])
    others = poses.clone()
    others[0, 1:], others[1, :2] = torch.randn(2, 4), torch.randn(2, 4)
    assert decoder(poses, chosen).equal(decoder(others, chosen))
    changed = poses.clone()
    changed[0, 0] += 1
    assert not decoder(poses, chosen)[0].allclose(decoder(changed, chosen)[0])


def test_the_dense_decoder_knows_the_class_and_the_deconv_decoder_does_not() -> None:
    poses, one, other = torch.ones(1, 3, 4), torch.tensor([[0]]), torch.tensor([[1]])
    dense, deconv = DenseDecoder((1, 8, 8), 3, 4).eval(), DeconvDecoder((1, 8, 8), 3, 4).eval()
    assert not dense(poses, one).allclose(dense(poses, other))
    assert deconv(poses, one).equal(deconv(poses, other))


@pytest.mark.parametrize(
    ("kind", "shape", "multiple"),
    [
        (DeconvDecoder, (1, 30, 32), 4),
        (DeconvDecoder, (1, 32, 30), 4),
        (DeepCapsDecoder, (1, 30, 32), 4),
        (DeepCapsDecoder, (1, 60, 64), 8),
    ],
)
def test_a_base_that_does_not_fit_the_image(kind: type[nn.Module], shape: tuple[int, int, int], multiple: int) -> None:
    with pytest.raises(ValueError, match=rf"multiples of {multiple} pixels .* got \d+×\d+; use DenseDecoder"):
        kind(shape, 10, 16)


def test_batch_norm_momentum_reaches_every_batch_norm() -> None:
    decoder = DeconvDecoder((1, 8, 8), 3, 4, batch_norm_momentum=0.2)
    norms = [module for module in decoder.layers if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.2)] * 3


@pytest.mark.parametrize("kind", [DeconvDecoder, DeepCapsDecoder, DenseDecoder])
def test_poses_of_another_shape_are_refused(kind: type[nn.Module]) -> None:
    """Ten poses of five dimensions would pass for five of ten."""
    decoder = kind((1, 8, 8), 5, 10)
    with pytest.raises(ValueError, match=r"this decoder takes poses .*10 dimensions\), got \(4, 10, 5\)"):
        decoder(torch.randn(4, 10, 5), torch.zeros(4, 2, dtype=torch.int64))
