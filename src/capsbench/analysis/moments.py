"""Exact moments of an image: how large, slanted and where its ink is."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

MOMENTS = 16
"""As many numbers as a pose has in every network of ours."""


def image_moments(images: UInt8[Tensor, "example 1 height width"]) -> Float[Tensor, "example moment"]:
    """Describe each image by 16 moments of its ink, computed exactly from the pixels.

    In order: the centroid x and y (pixels from the middle, to the right and downward); the sizes √μ₂₀ and √μ₀₂
    (pixels); the slants μ₁₁/μ₀₂ and μ₁₁/μ₂₀; the root of all ink; the four central moments of third order and the five
    of fourth order, with x and y in units of the sizes. Up to the second order rotation and shear of a digit can hardly
    be told apart; the higher ones help. An image without ink gives zeros.

    Source: M.-K. Hu, "Visual pattern recognition by moment invariants", 1962 (central moments).
    """
    ink = images[:, 0].double().numpy()
    height, width = ink.shape[1:]
    mass = np.maximum(ink.sum(axis=(1, 2)), 1e-9)

    def mean(of_x: np.ndarray, of_y: np.ndarray) -> np.ndarray:
        return np.einsum("nyx,nx,ny->n", ink, of_x, of_y, optimize=True) / mass

    x, y = (np.tile(np.arange(size) - (size - 1) / 2, (len(ink), 1)) for size in (width, height))
    one_x, one_y = np.ones_like(x), np.ones_like(y)
    centre_x, centre_y = mean(x, one_y), mean(one_x, y)
    x, y = x - centre_x[:, None], y - centre_y[:, None]
    xx, yy, xy = (np.maximum(mean(x * x, one_y), 1e-9), np.maximum(mean(one_x, y * y), 1e-9), mean(x, y))
    x, y = x / np.sqrt(xx)[:, None], y / np.sqrt(yy)[:, None]
    higher = [mean(x**k, y ** (order - k)) for order in (3, 4) for k in range(order + 1)]
    lower = [centre_x, centre_y, np.sqrt(xx), np.sqrt(yy), xy / yy, xy / xx, np.sqrt(mass)]
    return torch.from_numpy(np.stack([*lower, *higher], axis=1))
