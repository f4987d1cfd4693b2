"""ResNet: the backbone of `ResNetCapsNet` without capsules, the control of every capsule network.

Trainable parameters on 32×32×3, for 10 classes: 272,282 with blocks (3, 3, 3), 758,362 with (8, 8, 8), 855,578 with
(9, 9, 9). He et al.'s networks of these depths have 2,560 fewer, since they pad shortcuts with zeros.
"""

from collections.abc import Callable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import BATCH_NORM_MOMENTUM, Capsules, LayerInit, Linear, RouterFactory, StridePadding
from capsbench.models.backbone import STAGE_FILTERS, Shortcut, make_backbone, same_conv
from capsbench.routing import no_router


class ResNet(nn.Module):
    """Classify images by a ResNet, average pooling and a linear layer.

    Activations are logits, for cross-entropy. A class's pose is what each pooled feature adds to its logit, so the
    activation is the sum of the pose and a bias.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027).

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of classes.
        router: must be `no_router`; there are no capsules to route.
        blocks, conv_init, shortcut, stride_padding, batch_norm_momentum: see `ResNetCapsNet`.

    Raises:
        ValueError: there is a router, blocks are not three positive numbers, or a setting has none of its values.

    >>> import torch
    >>> net = ResNet((1, 28, 28), 10, no_router, blocks=(1, 1, 1))
    >>> capsules = net(torch.rand(2, 1, 28, 28))  # (batch, channel, height, width)
    >>> capsules.poses.shape, capsules.activations.shape  # (batch, class, feature) and (batch, class)
    (torch.Size([2, 10, 64]), torch.Size([2, 10]))
    """

    __call__: Callable[..., Capsules]

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        router: RouterFactory,
        *,
        blocks: Sequence[int] = (8, 8, 8),
        conv_init: LayerInit = "torch",
        shortcut: Shortcut = "activated",
        stride_padding: StridePadding = "symmetric",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        if getattr(router, "func", router) is not no_router:
            raise ValueError("ResNet has no capsules to route; set router=no_router, or take ResNetCapsNet")
        self.num_classes, self.pose_dim = num_classes, STAGE_FILTERS[-1]
        conv = partial(same_conv, init=conv_init, stride_padding=stride_padding)
        self.backbone = make_backbone(image_shape[0], blocks, batch_norm_momentum, shortcut, conv)
        self.linear = Linear(self.pose_dim, num_classes, init=conv_init)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to classes: poses (batch, class, feature), activations (batch, class)."""
        features: Tensor = self.backbone(images).mean(dim=(2, 3))
        return Capsules(features.unsqueeze(1) * self.linear.weight, activations=self.linear(features))
