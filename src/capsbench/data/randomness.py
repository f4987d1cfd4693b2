"""Randomness as a function: each random number is computed from (seed, purpose, epoch, index), without a generator.

So the order of an epoch and the augmentation of an example are the same in a run that resumes in mid-epoch, in a second
worker, on another rank and on another device. A change of these functions changes every published number; their values
are pinned in tests.
"""

import hashlib

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


class Draw:
    """Draw random numbers for a batch of examples, one per example and purpose.

    Args:
        seed: of the run.
        epoch: draws of different epochs are independent.
        indices: (batch,) of the examples in the data set; random numbers are made on their device.
    """

    def __init__(self, seed: int, epoch: int, indices: Int64[Tensor, "batch"]) -> None:
        self.seed = seed
        self.epoch = epoch
        self.indices = indices

    def bits(self, purpose: str) -> Int64[Tensor, "batch"]:
        """Draw 64 random bits per example."""
        return random_bits((self.seed, purpose, self.epoch), self.indices)

    def integers(self, purpose: str, high: int | Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
        """Draw uniform integers in [0, high); `high` is at most 2³¹, one for all examples or one for each."""
        return (_shift_right(self.bits(purpose), 32) * high) >> 32

    def uniform(self, purpose: str, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch"]:
        """Draw uniform float32 numbers in [low, high)."""
        return low + (high - low) * _shift_right(self.bits(purpose), 40).float() * 2.0**-24


def permutation(key: tuple[int | str, ...], length: int, device: torch.device | str = "cpu") -> Int64[Tensor, "length"]:
    """Draw a random order of the numbers 0 to `length` - 1, a function of `key`.

    >>> permutation((1, "order", 0), 5).tolist()
    [1, 4, 0, 3, 2]
    """
    return random_bits(key, torch.arange(length, device=device)).argsort(stable=True)


def buffered_order(
    key: tuple[int | str, ...], length: int, buffer: int, device: torch.device | str = "cpu"
) -> Int64[Tensor, "length"]:
    """Draw the order in which a shuffle buffer gives the numbers 0 to `length` - 1, read in this order.

    The buffer is filled; at each step a random place gives its number and takes the next one; the last `buffer` numbers
    come in random order. So a number comes at most `buffer` steps early. TensorFlow's `Dataset.shuffle` does the same.

    Args:
        key: the order is a function of it.
        length: how many numbers there are.
        buffer: how many of them it holds.
        device: where they are made.
    """
    steps = torch.arange(max(length - buffer, 0), device=device)
    places = (_shift_right(random_bits((*key, "place"), steps), 32) * buffer) >> 32
    # What a place gives is what came into it when it was last chosen: sort the steps by place to find that.
    by_place = places.argsort(stable=True)
    chosen = places[by_place]
    is_first = chosen != chosen.roll(1)
    is_first[:1] = True
    given = torch.empty_like(places)
    given[by_place] = torch.where(is_first, chosen, by_place.roll(1) + buffer)
    rest = torch.arange(min(length, buffer), device=device)
    is_last = is_first.roll(-1)
    rest[chosen[is_last]] = by_place[is_last] + buffer
    return torch.cat([given, rest[permutation((*key, "rest"), len(rest), device)]])


def random_bits(key: tuple[int | str, ...], indices: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    """Draw 64 random bits per index: element `index` of the SplitMix64 sequence whose start is a hash of `key`.

    All arithmetic is on integers, so every device gives the same bits. Source: Steele, Lea and Flood 2014, "Fast
    Splittable Pseudorandom Number Generators".
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    z = (indices + 1) * _GOLDEN_GAMMA + int.from_bytes(digest, "little", signed=True)
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Int64[Tensor, "batch"], by: int) -> Int64[Tensor, "batch"]:
    """Shift as an unsigned number; PyTorch's >> copies the sign bit."""
    return (z >> by) & ((1 << (64 - by)) - 1)
