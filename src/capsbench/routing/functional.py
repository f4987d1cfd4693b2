"""Vector functions that routers share.

Those of lengths compute in float32 where vectors have 16 bits, and have finite first and second derivatives at zero.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.transformations import is_transformed


def squash(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes dim"]:
    """Shrink each vector to a length below 1 and keep its direction: ‖s‖²/(1+‖s‖²) · s/‖s‖.

    Computed as s · ‖s‖/(1+‖s‖²), which divides by no small number: value and derivatives are 0 at the zero vector.

    Source: Sabour et al. 2017 (arXiv:1710.09829), eq. 1.

    >>> squash(torch.tensor([3.0, 4.0]))
    tensor([0.5769, 0.7692])
    """
    wide, squared = _squared_length(vectors)
    return (wide * (_root(squared) / (1 + squared))).to(vectors.dtype)


def squashed_norm(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes"]:
    """Compute the length of each squashed vector, ‖s‖²/(1+‖s‖²), which is smooth at zero.

    >>> squashed_norm(torch.tensor([3.0, 4.0]))
    tensor(0.9615)
    """
    _, squared = _squared_length(vectors)
    return (squared / (1 + squared)).squeeze(-1).to(vectors.dtype)


def exp_squash(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes dim"]:
    """Shrink each vector to a length below 1 and keep its direction: (1 - exp(-‖s‖)) · s/‖s‖.

    Short vectors keep their length. Value and gradient are finite at the zero vector.

    Source: Mazzia et al. 2021 (arXiv:2101.12491), eq. 3.

    >>> exp_squash(torch.tensor([0.0, 5.0]))
    tensor([0.0000, 0.9933])
    """
    wide, squared = _squared_length(vectors)
    norm = _root(squared)
    is_tiny = norm < 1e-12
    scale = torch.where(is_tiny, 1.0, -torch.expm1(-norm) / norm.masked_fill(is_tiny, 1.0))
    return (wide * scale).to(vectors.dtype)


def exp_squashed_norm(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes"]:
    """Compute the length of each vector after `exp_squash`, 1 - exp(-‖s‖).

    >>> exp_squashed_norm(torch.tensor([0.0, 5.0]))
    tensor(0.9933)
    """
    return (-torch.expm1(-length(vectors))).to(vectors.dtype)


def l2_normalize(vectors: Float[Tensor, "*axes dim"], eps: float = 1e-12) -> Float[Tensor, "*axes dim"]:
    """Divide each vector by its length. One no longer than `eps` becomes zero, and so do its derivatives.

    So does one whose square overflows: in float32 a length above 1.8e19.

    >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    wide, squared = _squared_length(vectors)
    return (wide * squared.masked_fill(squared <= eps**2, torch.inf).rsqrt()).to(vectors.dtype)


def length(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes"]:
    """Compute the length of each vector, of at least 32 bits. Its derivatives are 0 at the zero vector.

    >>> length(torch.tensor([3.0, 4.0]))
    tensor(5.)
    """
    _, squared = _squared_length(vectors)
    return _root(squared).squeeze(-1)


def _squared_length(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors of at least 32 bits, and the square of their lengths (…, 1): PyTorch's norm has no derivative at
    zero that could be differentiated again."""
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return wide, (wide * wide).sum(dim=-1, keepdim=True)


def _root(squared: Tensor) -> Tensor:
    is_zero = squared < torch.finfo(squared.dtype).tiny
    return squared.masked_fill(is_zero, 1.0).sqrt().masked_fill(is_zero, 0.0)


def weighted_sum(
    weights: Float[Tensor, "batch child parent"], votes: Float[Tensor, "batch child parent dim"]
) -> Float[Tensor, "batch parent dim"]:
    """Sum votes over children, each weighted by its coupling coefficient.

    An einsum would take five times as long: it multiplies many matrices of one row each.
    """
    return (weights.unsqueeze(-1) * votes).sum(dim=1)


def softmax_over_parents(logits: Float[Tensor, "batch child parent"]) -> Float[Tensor, "batch child parent"]:
    """Take the softmax over parents, with children last in memory, which is many times as fast."""
    return logits.transpose(1, 2).softmax(dim=1).transpose(1, 2)


def digamma(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compute ψ(x) of numbers of at least 1. Exported, from operations that ONNX has; within 2e-6 of it in float32.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 6.3.5 (from x to x + 6) and 6.3.18.

    >>> digamma(torch.tensor([1.0, 10.0]))
    tensor([-0.5772,  2.2518])
    """
    if not torch.compiler.is_exporting():
        return torch.digamma(x)
    below = torch.stack([1 / (x + k) for k in range(6)]).sum(dim=0)
    x = x + 6
    inverse_square = 1 / (x * x)
    series = inverse_square * (1 / 12 - inverse_square * (1 / 120 - inverse_square / 252))
    return x.log() - 0.5 / x - series - below


def widen(values: Float[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Convert to a wider type. A gradient too large for the narrow type comes back as its largest number, not infinite.

    >>> half = torch.ones((), dtype=torch.float16, requires_grad=True)
    >>> (1e9 * widen(half, torch.float32)).backward()
    >>> half.grad
    tensor(65504., dtype=torch.float16)
    """
    wide = values.to(dtype)
    if wide is not values and wide.requires_grad and not is_transformed():
        largest = torch.finfo(values.dtype).max
        wide.register_hook(lambda gradient: gradient.clamp(-largest, largest))  # type: ignore[no-untyped-call]
    return wide
