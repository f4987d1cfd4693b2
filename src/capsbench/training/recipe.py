"""What a `ClassificationModule` was made with, as plain values; only classes that are known are made of it."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from capsbench import capsules, models, routing
from capsbench.models.known import classes_in
from capsbench.training.checkpoint import read_checkpoint

Recipe = dict[str, Any]
"""The arguments of a `ClassificationModule` as plain values, classes as `_target_`; "model", "router" and "decoder" are
made with "image_shape" and "num_classes"."""
HYDRAS = ("_target_", "_partial_")


def made_of(recipe: Mapping[str, Any], own: Iterable[Any] = ()) -> dict[str, Any]:
    """Make the arguments of a `ClassificationModule`.

    Args:
        recipe: of the module.
        own: further classes and functions that it may name.

    Raises:
        ValueError: it names one that is not known, or settings that it does not take.
    """
    known = _known() | {f"{made.__module__}.{made.__qualname__}": made for made in own}
    shape, classes = tuple(recipe["image_shape"]), recipe["num_classes"]
    try:
        model = _part(recipe["model"], known)(
            image_shape=shape, num_classes=classes, router=_part(recipe["router"], known)
        )
        make_decoder = _part(recipe["decoder"], known)
        return {
            "model": model,
            "loss": _part(recipe["loss"], known)(),
            "optimizer": _part(recipe["optimizer"], known),
            "num_classes": classes,
            "labels_per_image": recipe.get("labels_per_image", 1),
            "scheduler": _part(recipe["scheduler"], known),
            "decoder": make_decoder and make_decoder(shape, classes, model.pose_dim),
            **{name: recipe[name] for name in ("scheduler_interval", "decay", "reconstruction_weight")},
        }
    except (TypeError, KeyError) as error:
        raise ValueError(f"the module cannot be made of what the checkpoint says: {error}") from error


def rebuilt(kind: type[nn.Module], path: Path, own: Iterable[Any], arguments: Mapping[str, Any]) -> Any:
    """Make a module as a checkpoint has it; see `ClassificationModule.load_from_checkpoint`."""
    saved = read_checkpoint(path)
    recipe = saved.get("recipe")
    if recipe is None and not arguments:
        raise ValueError(f"{path} does not say what the module was made with; give the arguments of {kind.__name__}")
    module: Any = kind(**(arguments or made_of(recipe or {}, own)))
    module.recipe = None if arguments else recipe
    weights = saved["state_dict"]
    module.load_state_dict({name: weights[name] for name in weights if not name.startswith("metrics.")})
    return module


def _part(settings: Mapping[str, Any] | None, known: Mapping[str, Any]) -> Any:
    """What makes a part with these settings; None if there is none."""
    if settings is None:
        return None
    if (target := str(settings.get("_target_"))) not in known:
        raise ValueError(f"{target:.100} is no class of capsbench or PyTorch, and is not made; if it is yours, own=[…]")
    return partial(known[target], **{name: value for name, value in settings.items() if name not in HYDRAS})


def _known() -> dict[str, Any]:
    from capsbench import training  # late: it imports this

    kinds = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    places = (models, routing, capsules, training, torch.optim, torch.optim.lr_scheduler)
    return classes_in(*places, kinds=kinds)
