"""Settings that make a training step faster and leave its results as they are, to rounding."""

import ctypes
import sys

import torch
from torch import nn

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors and reuse it for the next ones.

    By default glibc returns large blocks to the system, and every training step then waits while thousands of new pages
    are zeroed. Tensors of 32 MiB and more still get new pages. With any other C library this does nothing.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def use_channels_last(module: nn.Module) -> None:
    """Store convolution weights, and so the images between them, in channels-last memory order.

    CPU kernels and tensor cores are faster in that order. Results change by rounding only.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.to(memory_format=torch.channels_last)


def compile_networks(mode: str, *networks: nn.Module | None) -> None:
    """Let torch.compile compile networks at their first call; the names of their weights stay the same.

    It compiles a network as a whole, or layer by layer where it cannot, and a method no more than 8 times by default.
    Layers of one class share their methods, so that this limit, which is one for all, is raised to 8 for each layer.

    Args:
        mode: mode of torch.compile: "default", "reduce-overhead" (CUDA graphs), "max-autotune" or
            "max-autotune-no-cudagraphs".
        *networks: networks to compile; None is ignored.

    Raises:
        ValueError: the mode is none of these.
    """
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile must be null or one of {', '.join(COMPILE_MODES)}, got {mode}")
    from torch._dynamo import config  # not before it is used: it loads the compiler

    for network in networks:
        if network is not None:
            config.recompile_limit = max(config.recompile_limit, 8 * len(list(network.modules())))
            network.compile(mode=mode)
