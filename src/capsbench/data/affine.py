"""Affine transformations of digits: random ones as in affNIST, or by known amounts."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from capsbench.data.randomness import Draw
from capsbench.data.transforms import cut

ROTATION = 20.0
SHEAR = 0.2
SCALE = (0.8, 1.2)
WIDE = 64
"""Side of a canvas that holds every transformed digit completely."""


class Affine(NamedTuple):
    """How each image is transformed, in this order: scaled, sheared, rotated about its centre, shifted.

    Attributes:
        rotation: degrees, counter-clockwise.
        shear: pixels to the right for each pixel up.
        scale_x, scale_y: factors.
        shift_x, shift_y: whole pixels, to the right and downward.
    """

    rotation: Float[Tensor, "batch"]
    shear: Float[Tensor, "batch"]
    scale_x: Float[Tensor, "batch"]
    scale_y: Float[Tensor, "batch"]
    shift_x: Float[Tensor, "batch"]
    shift_y: Float[Tensor, "batch"]

    @classmethod
    def identity(cls, batch: int) -> "Affine":
        """Make the transformation that leaves `batch` images unchanged."""
        zero, one = torch.zeros(batch), torch.ones(batch)
        return cls(zero, zero, one, one, zero, zero)


def transform(
    images: UInt8[Tensor, "batch 1 height width"], affine: Affine, size: int
) -> UInt8[Tensor, "batch 1 size size"]:
    """Transform square images by known amounts onto a black canvas, which cuts off what is outside."""
    warped = warp(images, rotation=affine.rotation, shear=affine.shear, scale_x=affine.scale_x, scale_y=affine.scale_y)
    middle = (WIDE - size) // 2
    rows, columns = (
        (middle - shift.round().long()).clamp(0, WIDE - size) for shift in (affine.shift_y, affine.shift_x)
    )
    return cut(warped, rows, columns, size, size)


def transform_at_random(
    images: UInt8[Tensor, "batch 1 height width"], draw: Draw, size: int, reach: int | None = None
) -> tuple[UInt8[Tensor, "batch 1 size size"], Affine]:
    """Transform square images at random as in affNIST, and return the transformations too.

    Rotation is uniform within ±20°, shear within ±0.2, both scales from 0.8 to 1.2; then follows the place. Source:
    Tieleman's description of affNIST, which does not say how a place is chosen.

    Args:
        images: bytes.
        draw: decides.
        size: of the canvas.
        reach: the place is uniform among the shifts of up to so many pixels in each direction, and the canvas may cut
            off ink; None: uniform among those where it cuts off none.
    """
    rotation = draw.uniform("rotation", -ROTATION, ROTATION)
    shear = draw.uniform("shear", -SHEAR, SHEAR)
    scale_x, scale_y = draw.uniform("scale x", *SCALE), draw.uniform("scale y", *SCALE)
    warped = warp(images, rotation=rotation, shear=shear, scale_x=scale_x, scale_y=scale_y)
    middle = (WIDE - size) // 2
    if reach is None:
        ink = warped[:, 0] > 0
        rows = _first_line(ink.any(dim=2), size, draw, "row")
        columns = _first_line(ink.any(dim=1), size, draw, "column")
    else:
        rows, columns = (middle + reach - draw.integers(axis, 2 * reach + 1) for axis in ("row", "column"))
    affine = Affine(rotation, shear, scale_x, scale_y, (middle - columns).float(), (middle - rows).float())
    return cut(warped, rows, columns, size, size), affine


def warp(
    digits: UInt8[Tensor, "batch 1 height width"],
    *,
    rotation: Float[Tensor, "batch"],
    shear: Float[Tensor, "batch"],
    scale_x: Float[Tensor, "batch"],
    scale_y: Float[Tensor, "batch"],
) -> UInt8[Tensor, "batch 1 wide wide"]:
    """Scale, shear, then rotate square images about their centre, on a canvas of side `WIDE`; see `Affine`."""
    sine, cosine = torch.sin(torch.deg2rad(rotation)), torch.cos(torch.deg2rad(rotation))
    one, zero = torch.ones_like(shear), torch.zeros_like(shear)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).view(-1, 2, 2)

    rotate = matrix(cosine, sine, -sine, cosine)  # y points down
    forward = rotate @ matrix(one, -shear, zero, one) @ matrix(scale_x, zero, zero, scale_y)
    # grid_sample looks up, for each pixel of the result, where it comes from.
    backward = torch.linalg.inv(forward) * (WIDE / digits.shape[-1])
    theta = torch.cat([backward, torch.zeros_like(backward[:, :, :1])], dim=2)
    grid = F.affine_grid(theta, [len(digits), 1, WIDE, WIDE], align_corners=False)
    return F.grid_sample(digits.float(), grid, align_corners=False).round().to(torch.uint8)


def _first_line(has_ink: Bool[Tensor, "batch wide"], size: int, draw: Draw, purpose: str) -> Int64[Tensor, "batch"]:
    """Draw where a window of `size` lines begins that shows every line with ink, or the last ones if not all fit."""
    first = has_ink.int().argmax(dim=1)
    last = WIDE - 1 - has_ink.flip(1).int().argmax(dim=1)
    lowest = (last - size + 1).clamp(0, WIDE - size)
    highest = torch.minimum(first, torch.tensor(WIDE - size)).maximum(lowest)
    return lowest + draw.integers(purpose, highest - lowest + 1)
