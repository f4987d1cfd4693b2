"""What the library says in Python, in the words of the command: `scale must …` becomes `router.scale must …`."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from capsbench.launch.config import CONF
from capsbench.launch.errors import origin
from capsbench.launch.signatures import takes

PARTS = ("router", "arch", "decoder.network", "loss", "optim.optimizer")
"""Parts of a run that the library makes, whose settings are arguments in Python."""
SETTING = re.compile(
    r"""(?<![\w.])([a-z]\w*)(?:=("[^"]*"|True|False|None|[\d.]+\b)| (?=must |has no effect|follows from ))"""
)
NAME = re.compile(r"(?<!^)\b(?:router=)?(no_router|[A-Z]\w+)\b")


@contextlib.contextmanager
def in_words_of_the_command(config: DictConfig) -> Iterator[None]:
    """Where the library refuses in the body what a configuration asks for, name settings and choices as that does.

    Args:
        config: of the run.

    Raises:
        ValueError: as in the body.
    """
    try:
        yield
    except Exception as error:
        cause = origin(error)
        if isinstance(cause, ValueError) and len(cause.args) == 1:
            parts = {part: OmegaConf.select(config, part) or {} for part in PARTS}
            cause.args = (translated(str(cause), _by_maker(cause, parts)),)
        raise


def translated(message: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in the words of the command what the library says in Python.

    Args:
        message: of the library.
        parts: settings of each part of a run, those first that are meant where several have one of a name.

    >>> translated('take output="sum", or EMRouting', {"router": {"output": "squash"}})
    'take router.output=sum, or router=em'
    """

    def setting(found: re.Match[str]) -> str:
        part = next((part for part, settings in parts.items() if _has(part, found[1], settings)), None)
        if part is None:
            return found[0]
        value = {"True": "true", "False": "false", "None": "null"}.get(found[2], (found[2] or "").strip('"'))
        return f"{part}.{found[1]}" + (f"={value}" if found[2] else " ")

    return NAME.sub(lambda found: _choices().get(found[1], found[0]), SETTING.sub(setting, message))


def _has(part: str, key: str, settings: Mapping[str, Any]) -> bool:
    return key in settings or ("_target_" in settings and takes(part, key, settings))


def _by_maker(error: BaseException, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The parts, that first whose class raised an error."""
    kinds: list[str] = []
    step = error.__traceback__
    while step is not None:
        kinds[:0] = [kind.__name__ for kind in type(step.tb_frame.f_locals.get("self")).__mro__]
        step = step.tb_next
    targets = {part: str(settings.get("_target_")).rpartition(".")[2] for part, settings in parts.items()}
    depth = {part: kinds.index(target) if target in kinds else len(kinds) for part, target in targets.items()}
    return {part: parts[part] for part in sorted(parts, key=depth.__getitem__)}


@cache
def _choices() -> dict[str, str]:
    """The choice of each class of the library: {"EMRouting": "router=em"}."""
    found: dict[str, str] = {}
    for group in ("arch", "router", "decoder", "loss"):
        for path in sorted((CONF / group).glob("[!_]*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            target = content.get("_target_") or (content.get("network") or {}).get("_target_")
            if target:
                found.setdefault(target.rpartition(".")[2], f"{group}={path.stem}")
    return found
