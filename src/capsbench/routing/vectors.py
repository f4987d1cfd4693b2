"""The two things routing does to a vector's length: squash it, or divide it out."""

import torch
from jaxtyping import Float
from torch import Tensor


def squash(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes dim"]:
    """Shrink each vector to a length below 1, keeping its direction: ‖s‖²/(1+‖s‖²) · s/‖s‖.

    Written as s · ‖s‖/(1+‖s‖²), it divides by nothing small: value and gradient are 0 at the zero vector.

    Source: Sabour et al. 2017 (arXiv:1710.09829), eq. 1.

    >>> squash(torch.tensor([3.0, 4.0]))
    tensor([0.5769, 0.7692])
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * (norm / (1 + norm * norm))


def squashed_norm(vectors: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes"]:
    """The length of each vector after squashing, ‖s‖²/(1+‖s‖²), smooth at zero.

    >>> squashed_norm(torch.tensor([3.0, 4.0]))
    tensor(0.9615)
    """
    squared = vectors.square().sum(dim=-1)
    return squared / (1 + squared)


def l2_normalize(vectors: Float[Tensor, "*axes dim"], eps: float = 1e-12) -> Float[Tensor, "*axes dim"]:
    """Divide each vector by its length; one shorter than `eps` has no direction and becomes zero, gradient included.

    >>> l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / norm.masked_fill(norm < eps, torch.inf)
