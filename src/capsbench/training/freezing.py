"""Parts of a network that are not trained."""

from collections.abc import Iterable

from torch import nn


def freeze(model: nn.Module, decoder: nn.Module | None, parts: Iterable[str]) -> list[nn.Module]:
    """Let parts of a network have no gradients.

    Args:
        model: the network.
        decoder: of its poses, if there is one.
        parts: names such as "backbone" or "capsule_layers.0"; "decoder".

    Returns:
        These parts.

    Raises:
        ValueError: the network has no such part, or nothing is left to train.

    >>> len(freeze(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), None, ["0"]))
    1
    """
    named = dict(model.named_modules()) | ({"decoder": decoder} if decoder is not None else {})
    found = []
    for part in parts:
        if part not in named or not part:
            names = [*dict(model.named_children()), *(["decoder"] if decoder is not None else [])]
            raise ValueError(f"freeze must be a part of the network, {', '.join(names)}, or within one, got {part}")
        found.append(named[part].requires_grad_(False))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze={list(parts)} leaves nothing of the network to train; name fewer parts")
    return found
