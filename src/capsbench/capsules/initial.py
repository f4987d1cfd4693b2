"""Initial values: each follows from the seed and the parameter's name, whatever else a network draws."""

import hashlib
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.routing import check_choice

LayerInit = Literal["torch", "keras"]
StridePadding = Literal["symmetric", "tensorflow"]

STD_OF_CUT_NORMAL = 0.87962566103423978
"""Of a standard normal distribution that is cut at ±2."""


def initialise(network: nn.Module, seed: int) -> None:
    """Draw initial values again, so that each depends on the seed and its name alone.

    Two networks then begin alike in all that they share: those with FM and EM agree in every weight but EM's β.

    Calls `reset_parameters` of each module that has it, seeded by the module's name. PyTorch's own layers keep their
    values, because whoever made one may have set them.

    Args:
        network: any module; names count from it.
        seed: of the run.

    >>> class Noise(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.empty(3))
    ...     def reset_parameters(self):
    ...         nn.init.normal_(self.weight)
    >>> small, large = nn.ModuleDict({"b": Noise()}), nn.ModuleDict({"a": Noise(), "b": Noise()})
    >>> initialise(small, seed=1), initialise(large, seed=1)
    (None, None)
    >>> small["b"].weight.equal(large["b"].weight), large["a"].weight.equal(large["b"].weight)
    (True, False)
    """
    for name, module in network.named_modules():
        if hasattr(module, "reset_parameters") and not type(module).__module__.startswith("torch."):
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int.from_bytes(digest[:8]))
                module.reset_parameters()


class Linear(nn.Linear):
    """A linear layer that begins as one of PyTorch or Keras.

    Args:
        in_features, out_features: of the layer.
        init: "torch" draws weights and biases as `torch.nn.Linear`; "keras" weights from Glorot's uniform distribution,
            and biases are 0.

    >>> Linear(3, 2, init="keras").bias.tolist()
    [0.0, 0.0]
    """

    __call__: Callable[..., Tensor]

    def __init__(self, in_features: int, out_features: int, init: LayerInit = "torch") -> None:
        self.init = init
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw initial values."""
        super().reset_parameters()
        _draw(self.weight, self.bias, self.init, he=False)


class Conv2d(nn.Conv2d):
    """A convolution that begins as one of PyTorch or Keras, and pads as either.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, groups, bias: see `torch.nn.Conv2d`.
        he: draw weights from He's normal distribution; else as the library does where it is told nothing.
        init: "torch" takes its biases, and weights if not `he`; "keras" cuts He's distribution at 2σ, takes Glorot's
            uniform distribution if not `he`, and biases are 0.
        stride_padding: of a convolution with a stride. "symmetric" pads both sides by `padding`; "tensorflow" as its
            'same': where one zero more is needed on one side, it comes after. The size of the output is the same.

    Raises:
        ValueError: init or stride_padding is unknown; or stride_padding is "tensorflow" and there is a stride, but the
            kernel's sides are even, or padding is not half of them.

    >>> conv = Conv2d(1, 1, 3, stride=2, padding=1, stride_padding="tensorflow")
    >>> conv(torch.rand(1, 1, 4, 5)).shape
    torch.Size([1, 1, 2, 3])
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        *,
        groups: int = 1,
        bias: bool = False,
        he: bool = True,
        init: LayerInit = "torch",
        stride_padding: StridePadding = "symmetric",
    ) -> None:
        check_choice("init", init, "torch", "keras")
        check_choice("stride_padding", stride_padding, "symmetric", "tensorflow")
        self.he, self.init, self.stride_padding = he, init, stride_padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        zeros = (padding, padding) if isinstance(padding, int) else padding
        if self._pads_as_tensorflow and self.kernel_size != tuple(2 * each + 1 for each in zeros):
            raise ValueError(
                'stride_padding="tensorflow" pads by half an odd kernel: set padding=kernel_size // 2, '
                f"got kernel_size={kernel_size} and padding={padding}"
            )

    def reset_parameters(self) -> None:
        """Draw initial values."""
        super().reset_parameters()
        _draw(self.weight, self.bias, self.init, self.he)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out h w"]:
        """Pad and convolve."""
        if not self._pads_as_tensorflow:
            return super().forward(x)
        sides = [side for axis in (1, 0) for side in self._same(x.shape[2 + axis], axis)]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride, groups=self.groups)

    @property
    def _pads_as_tensorflow(self) -> bool:
        return self.stride_padding == "tensorflow" and max(self.stride) > 1

    def _same(self, size: int, axis: int) -> tuple[int, int]:
        """How many zeros go before and after, so that an output has ⌈size/stride⌉ pixels."""
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        zeros = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        return zeros // 2, zeros - zeros // 2


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that multiplies the size by its stride, with weights from He's normal distribution.

    Args:
        in_channels, out_channels: of the layer.
        kernel_size: odd.
        stride: the factor.
        init: see `Conv2d`.

    >>> ConvTranspose2d(1, 1, 5, stride=2)(torch.rand(1, 1, 4, 5)).shape
    torch.Size([1, 1, 8, 10])
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, init: LayerInit = "torch"
    ) -> None:
        self.init = init
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, output_padding=stride - 1)

    def reset_parameters(self) -> None:
        """Draw initial values."""
        super().reset_parameters()
        _draw(self.weight, self.bias, self.init, he=True)


def _draw(weight: Tensor, bias: Tensor | None, init: LayerInit, he: bool) -> None:
    """Replace PyTorch's own initial values where something else is asked for."""
    std = math.sqrt(2 / weight[0].numel())  # of He: 2/fan_in
    if he and init == "keras":
        std /= STD_OF_CUT_NORMAL
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    elif he:
        nn.init.normal_(weight, std=std)
    elif init == "keras":
        nn.init.xavier_uniform_(weight)
    if bias is not None and init == "keras":
        nn.init.zeros_(bias)
