"""model.json: what a trained network is, besides its weights. Only what is known of what it names is run."""

import functools
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

import capsbench
from capsbench import models, routing
from capsbench.data.files import written_atomically
from capsbench.data.preparation import Preparation
from capsbench.data.reading import STRICT, Name, checked, in_words, read_json
from capsbench.models.known import classes_in

FORMAT = 1
"""Of model.json; it grows where older files would be read wrongly."""
TARGET = "_target_"

Scores = Literal["activations", "softmax", "shares"]
"""What a network says of its classes: activations of class capsules as they are, a softmax of them, or a/Σa."""


@dataclass(frozen=True)
class Description:
    """What a trained network is, besides its weights.

    Attributes:
        arch, router: classes, as `_target_`, and what they are made with.
        preparation: of images.
        class_names: in the order of the class capsules.
        labels_per_image: how many classes an image shows; None: any number.
        threshold: of an activation, above which an image that may show any number of classes is said to show it.
        scores: of classes.
        scale: α in a softmax of α·a.
        run: where the network comes from, for readers.
        version: of the package that wrote this.
        format: `FORMAT`.
    """

    __pydantic_config__ = STRICT

    arch: dict[Name, Any]
    router: dict[Name, Any]
    preparation: Preparation
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    labels_per_image: Annotated[int, Field(ge=1)] | None = 1
    threshold: float = 0.5
    scores: Scores = "activations"
    scale: Annotated[float, Field(gt=0)] = 1.0
    run: dict[Name, Any] = field(default_factory=dict)
    version: str = capsbench.__version__
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write model.json."""
        with written_atomically(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Description":
        """Read model.json.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of a newer version of the package.
        """
        try:
            content = read_json(path)
            newer = isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT
            if newer:
                raise ValueError("a newer version of capsbench wrote it; install that")
            return checked(cls, content)
        except FileNotFoundError:
            raise
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read: {in_words(error)}") from error

    def score(self, activations: Float[Tensor, "picture class"]) -> Float[Tensor, "picture class"]:
        """Turn activations of the class capsules into scores."""
        if self.scores == "softmax":
            return (self.scale * activations).softmax(dim=1)
        if self.scores == "shares":
            positive = activations.clamp_min(torch.finfo(activations.dtype).tiny)
            return positive / positive.sum(dim=1, keepdim=True)
        return activations

    def build(self, own: Iterable[type[nn.Module]] | Mapping[str, Any] = ()) -> nn.Module:
        """Make the network on PyTorch's "meta" device: without weights.

        Args:
            own: classes of routers and networks that the package does not have, or what makes them by the names in the
                description; only they and the package's are made.

        Raises:
            ValueError: the description names another class, or settings that it does not take.
        """
        known = classes_in(models, routing)
        known |= own if isinstance(own, Mapping) else {f"{made.__module__}.{made.__qualname__}": made for made in own}
        if (self.labels_per_image or 1) > len(self.class_names):
            raise ValueError(f"an image cannot show {self.labels_per_image} of {len(self.class_names)} classes")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("two classes have one name")
        make, router = _maker(self.arch, known), _maker(self.router, known)
        try:
            with torch.device("meta"):
                network: nn.Module = make(
                    image_shape=self.preparation.seen, num_classes=len(self.class_names), router=router
                )
        except ValueError:
            raise
        except Exception as error:  # numbers that make no layer have errors of many kinds
            raise ValueError(f"the network cannot be made: {str(error).partition(chr(10))[0]}") from error
        return network


def is_plain(settings: Mapping[str, Any]) -> bool:
    """Tell whether a class is made of plain values only, so that a description can hold them."""
    return TARGET in settings and not any(isinstance(value, Mapping) for value in settings.values())


def without_hydra(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of the settings of a class what only Hydra needs."""
    return {name: value for name, value in settings.items() if name != "_partial_"}


def _maker(settings: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    target, values = str(settings.get(TARGET)), {name: value for name, value in settings.items() if name != TARGET}
    if target not in known:
        raise ValueError(
            f"{target:.100} is no network or router of capsbench, and is not run; if it is yours, hand it over: "
            "load(path, own=[MyRouter])"
        )
    if unknown := values.keys() - inspect.signature(known[target]).parameters.keys():
        raise ValueError(f"{target} takes no {', '.join(sorted(unknown))}; it is of another version of capsbench")
    return functools.partial(known[target], **values)
