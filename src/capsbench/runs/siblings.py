"""Runs that differ from another in their length alone."""

from typing import Any

from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity, without

LENGTHS = ("trainer.max_epochs", "trainer.max_steps", "optim.scheduler.T_max")
"""Settings that say how long a run is, or follow from that."""


def shorter_run(identity: Identity, folder: RunFolder) -> RunFolder | None:
    """Find a finished run like another, but shorter; the longest of several.

    Args:
        identity, folder: of the other.
    """
    found = []
    for path in folder.path.parent.glob(f"seed{identity.seed}-*"):
        sibling = RunFolder(path)
        if path == folder.path or not sibling.is_finished:
            continue
        try:
            known = Identity.load(path)
        except (FileNotFoundError, ValueError):
            continue
        same = without(known.settings, LENGTHS) == without(identity.settings, LENGTHS)
        if same and known.version == identity.version and _is_shorter(known, identity):
            found.append((_length(known), str(path), sibling))
    return max(found)[2] if found else None


def _is_shorter(one: Identity, other: Identity) -> bool:
    return all(here <= there for here, there in zip(_length(one), _length(other), strict=True))


def _length(identity: Identity) -> tuple[float, float]:
    """Epochs and steps, both of which are limits."""
    trainer: Any = identity.settings["trainer"]
    epochs, steps = (float(trainer.get(f"max_{name}") or -1) for name in ("epochs", "steps"))
    return (float("inf") if epochs == -1 else epochs, float("inf") if steps == -1 else steps)
