"""A network whose equivariance and invariance are known, and digits to measure them on."""

import pytest
import torch
from torch import nn

from capsbench.data import Digits
from capsbench.routing import Capsules
from capsbench.training import ClassificationModule, MarginLoss


class LeftOrRight(nn.Module):
    """Two classes: is the ink's centre left or right. The pose holds the centre and nothing else."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.register_buffer("steps", torch.arange(size) - (size - 1) / 2)
        self.weight = nn.Parameter(torch.ones(()))
        self.primary = nn.Identity()

    def forward(self, images: torch.Tensor) -> Capsules:
        self.primary(images)
        ink = images.sum(dim=(1, 2, 3)).clamp_min(1e-6)
        x = torch.einsum("bchw,w->b", images, self.steps) / ink
        y = torch.einsum("bchw,h->b", images, self.steps) / ink
        side = torch.stack([(x < 0).float(), (x >= 0).float()], dim=1) + 0.1
        pose = torch.stack([x, y], dim=1)[:, None] * torch.tensor([1.0, -1.0])[None, :, None]
        return Capsules(self.weight * pose, side)


@pytest.fixture
def module() -> ClassificationModule:
    return ClassificationModule(LeftOrRight(), MarginLoss(), torch.optim.SGD, num_classes=2)


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits()
    data.setup()
    return data
