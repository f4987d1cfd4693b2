"""Whether the class of a part of a run takes a setting that none of its files has."""

import inspect
from collections.abc import Mapping
from typing import Any

import yaml
from hydra.utils import get_object

from capsbench.launch.errors import choice_of

GIVEN = {
    "arch": {"image_shape", "num_classes", "router"},
    "router": {"num_children", "num_parents", "pose_dim", "feeds_capsules"},
    "decoder.network": {"image_shape", "num_classes", "pose_dim"},
    "optim.optimizer": {"params"},
    "optim.scheduler": {"optimizer"},
    "callbacks.best_checkpoint": {
        *("dirpath", "filename", "save_top_k", "save_last", "save_weights_only", "enable_version_counter"),
        *("save_on_exception", "save_on_train_epoch_end", "every_n_train_steps", "train_time_interval"),
    },
}
"""Arguments that follow from the rest of the run, or that it sets itself."""


def check_argument(part: str, key: str, settings: Mapping[str, Any]) -> None:
    """Check that the class of a part takes a setting that was added. Its module is imported, which takes seconds.

    Raises:
        ValueError: it does not, or the setting follows from others.
    """
    if not takes(part, key, settings):
        if others := _choices_with(part, key):
            raise ValueError(f"{part}.{key} is a setting of {part}={' or '.join(others)}; choose that, or leave it out")
        raise ValueError(f"there is no setting {part}.{key}; {choice_of(key, _taken(part, settings) or ())}")


def _choices_with(part: str, key: str) -> list[str]:
    """The choices of a part whose files set a key."""
    from capsbench.launch.config import CONF  # late: it imports this

    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CONF / part).glob("[!_]*.yaml")}
    return sorted(name for name, content in files.items() if key in (content or {}))


def takes(part: str, key: str, settings: Mapping[str, Any]) -> bool:
    """Whether the class of a part takes a setting."""
    if key.startswith("_") or "_target_" not in settings:
        return True
    taken = _taken(part, settings)
    return taken is None or key in taken


def _taken(part: str, settings: Mapping[str, Any]) -> set[str] | None:
    """The settings that the class of a part takes; None if any, or if it cannot be imported: the run says why."""
    try:
        names = _arguments(get_object(settings["_target_"]))
    except Exception:  # a user's module may fail in any way
        return None
    return names and names - GIVEN.get(part, set())


def _arguments(made_by: Any) -> set[str] | None:
    """The names that a function or class takes, with those that it hands on to its base; None if it takes any."""
    names: set[str] = set()
    for step in inspect.getmro(made_by) if inspect.isclass(made_by) else [made_by]:
        if inspect.isclass(step) and "__init__" not in vars(step):
            continue
        taken = inspect.signature(step.__init__ if inspect.isclass(step) else step).parameters.values()
        names |= {one.name for one in taken if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if all(one.kind != one.VAR_KEYWORD for one in taken):
            return names - {"self"}
    return None
