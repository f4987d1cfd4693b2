"""What the time of a capsule layer is compared with: how fast the device is, and what the layer must do on it."""

from typing import NamedTuple

import torch

from capsbench.benchmarks.measure import interleaved
from capsbench.capsules import CapsuleLayer
from capsbench.routing import Capsules

FLOOR = "arithmetic floor"


class Speeds(NamedTuple):
    """What a device reaches: bytes per second of a copy, read and written, and operations per second of a product."""

    bandwidth: float
    rate: float


def measure_speeds(device: torch.device) -> Speeds:
    """Measure a copy of 256 MB and a product of large square matrices, the best of five."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    side = 4096 if device.type == "cuda" else 1024
    matrix = torch.rand(side, side, device=device)
    times = interleaved({"copy": lambda: target.copy_(source), "product": lambda: matrix @ matrix}, repetitions=5)
    return Speeds(2 * 4 * source.numel() / (min(times["copy"]) / 1000), 2 * side**3 / (min(times["product"]) / 1000))


class Work(NamedTuple):
    """What a pass of a layer has to do: multiply-adds of products, operations on elements, and bytes that must move."""

    multiply_adds: int
    elements: int
    bytes: int

    @property
    def operations(self) -> int:
        """All operations: a multiply-add is two."""
        return 2 * self.multiply_adds + self.elements

    def floor_ms(self, speeds: Speeds) -> float:
        """The milliseconds that the multiply-adds alone take at the rate of a matrix product."""
        return 1000 * 2 * self.multiply_adds / speeds.rate


def bytes_that_must_move(layer: CapsuleLayer, children: Capsules, *, backward: bool) -> int:
    """Count the bytes that any way to compute a layer reads or writes: each tensor once for each pass that needs it.

    Forward these are children, weights and parents. The backward pass reads children, weights and the gradient of the
    parents, and writes the gradients of children and weights. Votes need not move.
    """
    transform = layer.transform
    read = sum(tensor.numel() for tensor in (children.poses, transform.weight))
    read += children.activations.numel() if layer.router.reads_activations else 0
    parents = len(children.poses) * transform.num_parents * (transform.pose_dim + 1)
    numbers = read + parents
    if backward:
        numbers += read + parents + read
    return numbers * children.poses.element_size()
