"""What makes the same training step take less time."""

import ctypes
import sys

import torch
from torch import nn

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def keep_freed_memory() -> None:
    """Let the C library of Linux keep the memory of freed tensors for the next ones.

    Otherwise it gives back what is larger than a threshold that depends on what was freed before, and each step begins
    with clearing thousands of new pages. Tensors of 32 MiB and more get new pages all the same. Where there is another
    C library, nothing happens.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def use_channels_last(module: nn.Module) -> None:
    """Keep the weights of convolutions, and so the images between them, with the channels of a pixel side by side.

    Convolution kernels on CPUs and tensor cores read that order; results change by rounding only.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.to(memory_format=torch.channels_last)


def compile_networks(mode: str, *networks: nn.Module | None) -> None:
    """Have networks compiled by torch.compile at their first call; names of weights stay.

    Args:
        mode: of torch.compile: "default", "reduce-overhead" (CUDA graphs), "max-autotune" or
            "max-autotune-no-cudagraphs".
        *networks: to be compiled; None is passed over.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile must be null or one of {', '.join(COMPILE_MODES)}, got {mode}")
    for network in networks:
        if network is not None:
            network.compile(mode=mode)
