"""CapsBench: how capsule networks should reach agreement, answered with numbers anyone can rerun."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capsbench.inference import Classifier, Predictions, load, networks
    from capsbench.launch.python import train
    from capsbench.runs import Result

__version__ = "0.1.0"
__all__ = ["Classifier", "Predictions", "Result", "load", "networks", "train"]


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch when it is first used."""
    if name == "train":
        from capsbench.launch.python import train

        return train
    if name == "Result":
        from capsbench.runs import Result

        return Result
    if name in __all__:
        from capsbench import inference

        return getattr(inference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
