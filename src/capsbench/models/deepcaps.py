"""DeepCaps: a convolution, four cells of convolutional capsules with skip connections, and class capsules.

Trainable parameters with dynamic routing, for 10 classes: 8,441,600 on 28×28×1, 8,443,904 on 32×32×3 and 13,359,104 on
64×64×3. With `router.bias=true`, as in the authors' code, 320 more: 8,441,920, 8,444,224 and 13,359,424. The paper says
7.22M, which that code does not have at any of these sizes.
"""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    BATCH_NORM_MOMENTUM,
    CapsuleLayer,
    Capsules,
    Conv2d,
    ConvRouting3d,
    FullTransform,
    LayerInit,
    RouterFactory,
    StridePadding,
    WeightInit,
    batch_norm_2d,
    squash,
)

CELLS = 4
KERNEL = 3


class DeepCaps(nn.Module):
    """Classify images by cells of convolutional capsules. Takes any router for the class capsules.

    Each cell halves the map. The class capsules read the maps of the last two cells. The skip connection of the last
    cell is `ConvRouting3d`; all other capsules below the classes are squashed convolutions.

    Source: Rajasegaran et al. 2019, "DeepCaps: Going Deeper with Capsule Networks" (arXiv:1904.09546), and its authors'
    code. Class capsules have no biases here unless the router has, see `DynamicRouting`.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of class capsules.
        router: makes the router of the class capsules; theirs is `DynamicRouting`.
        filters: of the first convolution.
        types: capsules at each place of a cell.
        first_dim: dimensions of a capsule of the first cell.
        dim: dimensions of a capsule of the other cells.
        pose_dim: dimensions of class capsules.
        iterations: of the routing within the last cell; 1 is uniform coupling.
        weight_init: see `capsbench.capsules.transforms.glorot_normal_`.
        conv_init, stride_padding: see `capsbench.capsules.initial.Conv2d`.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.

    Raises:
        ValueError: the image is too small for every cell to halve its map, iterations is not an integer of at least 1,
            or weight_init, conv_init or stride_padding is unknown.

    >>> from capsbench.routing import DynamicRouting
    >>> net = DeepCaps((1, 28, 28), 10, DynamicRouting, types=8)
    >>> capsules = net(torch.rand(2, 1, 28, 28))  # (batch, channel, height, width)
    >>> capsules.poses.shape, capsules.activations.shape  # (batch, class, dim) and (batch, class)
    (torch.Size([2, 10, 32]), torch.Size([2, 10]))
    """

    __call__: Callable[..., Capsules]

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        router: RouterFactory,
        *,
        filters: int = 128,
        types: int = 32,
        first_dim: int = 4,
        dim: int = 8,
        pose_dim: int = 32,
        iterations: int = 3,
        weight_init: WeightInit = "pair",
        conv_init: LayerInit = "torch",
        stride_padding: StridePadding = "symmetric",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        least = 2 ** (CELLS - 1) + 1
        if min(height, width) < least:
            raise ValueError(
                f"DeepCaps needs images of at least {least}×{least} pixels for each of its {CELLS} cells to halve its "
                f"map, got {height}×{width}; use larger images or ResNetCapsNet"
            )
        self.num_classes, self.pose_dim = num_classes, pose_dim
        self.stem = nn.Sequential(
            Conv2d(channels, filters, KERNEL, padding=KERNEL // 2, bias=True, init=conv_init),
            nn.ReLU(),
            batch_norm_2d(filters, batch_norm_momentum),
        )
        conv = partial(CapsuleConv, types=types, conv_init=conv_init, stride_padding=stride_padding)
        self.cells = nn.ModuleList(
            [
                Cell(filters, first_dim, conv),
                Cell(types * first_dim, dim, conv),
                Cell(types * dim, dim, conv),
                Cell(
                    types * dim, dim, conv, ConvRouting3d(dim, types, dim, iterations=iterations, conv_init=conv_init)
                ),
            ]
        )
        places = sum((-(-height // shrunk)) * (-(-width // shrunk)) for shrunk in (2**CELLS, 2 ** (CELLS - 1)))
        self.class_capsules = CapsuleLayer(
            FullTransform(places * types, num_classes, dim, pose_dim, weight_init), router
        )

    @property
    def primary(self) -> nn.Module:
        """The layer that turns features into capsules."""
        first: Cell = self.cells[0]  # type: ignore[assignment]
        return first.first

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to class capsules: poses (batch, class, dim), activations (batch, class)."""
        maps = [self.stem(images)]
        for cell in self.cells:
            maps.append(cell(maps[-1]))
        poses = torch.cat([rearrange(each, "b type dim h w -> b (h w type) dim") for each in (maps[-1], maps[-2])], 1)
        # A cell's capsule is the sum of two of length below 1.
        capsules: Capsules = self.class_capsules(Capsules(poses, activations=poses.norm(dim=-1) / 2))
        return capsules


class CapsuleConv(nn.Module):
    """Convolve all capsules of a map to capsules of another, and squash each.

    A convolution is a capsule layer with uniform coupling.

    Args:
        in_channels: of the features, or types · dimensions of the child map.
        dim: dimensions of a parent pose.
        types: parents at each place.
        stride: of the convolution.
        conv_init, stride_padding: see `capsbench.capsules.initial.Conv2d`.

    >>> CapsuleConv(32 * 4, 8, types=16, stride=2)(torch.randn(2, 32, 4, 7, 7)).shape  # (batch, type, dim, h, w)
    torch.Size([2, 16, 8, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        types: int,
        stride: int = 1,
        conv_init: LayerInit = "torch",
        stride_padding: StridePadding = "symmetric",
    ) -> None:
        super().__init__()
        self.dim = dim
        self.conv = Conv2d(
            in_channels,
            types * dim,
            KERNEL,
            stride,
            KERNEL // 2,
            init=conv_init,
            stride_padding=stride_padding,
        )

    def forward(self, maps: Float[Tensor, "batch *channels h w"]) -> Float[Tensor, "batch parent dim row column"]:
        """Map features, or child poses (batch, child, d, h, w), to parent poses of length below 1."""
        s = rearrange(self.conv(maps.flatten(1, -3)), "b (type dim) h w -> b type h w dim", dim=self.dim)
        return squash(s).movedim(-1, 2)


class Cell(nn.Module):
    """Halve a map of capsules, then add what two more layers make of it to what a skip connection does.

    Args:
        in_channels: of the features, or types · dimensions of the child map.
        dim: dimensions of a parent pose.
        conv: makes a `CapsuleConv` of as many types as the parent map has.
        skip: the skip connection; None is another `CapsuleConv`.

    >>> Cell(32 * 4, 8, partial(CapsuleConv, types=16))(torch.randn(2, 32, 4, 7, 7)).shape  # (batch, type, dim, h, w)
    torch.Size([2, 16, 8, 4, 4])
    """

    def __init__(
        self, in_channels: int, dim: int, conv: partial[CapsuleConv], skip: ConvRouting3d | None = None
    ) -> None:
        super().__init__()
        hidden = conv.keywords["types"] * dim
        self.first = conv(in_channels, dim, stride=2)
        self.skip = conv(hidden, dim) if skip is None else skip
        self.deep = nn.Sequential(conv(hidden, dim), conv(hidden, dim))

    def forward(self, maps: Float[Tensor, "batch *channels h w"]) -> Float[Tensor, "batch parent dim row column"]:
        """Map features, or child poses (batch, child, d, h, w), to parent poses of length below 2."""
        first = self.first(maps)
        parents: Tensor = self.skip(first) + self.deep(first)
        return parents
