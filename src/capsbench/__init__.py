"""CapsBench: how capsule networks should reach agreement, answered with numbers anyone can rerun."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capsbench.inference import Classifier, Predictions, load, networks

__version__ = "0.1.0"
__all__ = ["Classifier", "Predictions", "load", "networks"]


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch when it is first used."""
    if name in __all__:
        from capsbench import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
