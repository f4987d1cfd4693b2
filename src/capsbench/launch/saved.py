"""The configuration that a run's folder holds, read as data: it cannot name what is not among the choices."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

from capsbench.data.foreign import read_bytes
from capsbench.launch.config import CONF, own_choices
from capsbench.runs import RunFolder

PARTS = ("data", "arch", "router", "decoder", "loss", "optim")
"""Of a configuration: what a run is built from."""
LARGEST = 64 * 2**10
"""Bytes of a configuration; that of a run has 3,000. A larger file takes long to parse."""
FORMER = {"logger": frozenset(f"lightning.pytorch.loggers.{name}" for name in ("CSVLogger", "WandbLogger"))}
"""Targets that no choice names any more, but configurations of older runs do."""

Targets = Mapping[str, frozenset[str]]
"""By the part of a configuration: the classes that it may be made of."""


def read_config(folder: RunFolder, config_dir: str | None = None) -> DictConfig:
    """Read the configuration that a run was trained with. Nothing in it is executed or resolved.

    Args:
        folder: of the run.
        config_dir: a user's own directory of choices, whose targets are allowed beside those of conf/.

    Raises:
        ValueError: the file holds something else, or names a target or a value that a run's configuration cannot have.
    """
    path = folder.config
    damaged = f"{path} is damaged, it is no run's configuration; delete {folder} and train again"
    content = _parse(read_bytes(path, LARGEST))
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in PARTS):
        raise ValueError(damaged)
    allowed = known_targets(config_dir)
    for keys, value in _leaves(content):
        name, part = ".".join(map(str, keys)), str(keys[0])
        if not isinstance(value, str | int | float | None) or (isinstance(value, int) and value.bit_length() > 64):
            raise ValueError(damaged)
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{path} sets {name} to {value:.100}, but in a saved configuration nothing is resolved")
        if "_target_" in keys and value not in allowed.get(part, ()):
            raise ValueError(
                f"{path} sets {name} to {value!s:.100}, which no choice of {part} in conf/ or --config-dir names, and "
                "which is not run; if it is yours, give the --config-dir that it was trained with"
            )
    return OmegaConf.create(content)


DEEPEST = 50
"""The most levels of a configuration that is read."""


class _Loader(get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's, but for aliases, a few lines of which stand for billions of values, and for depth."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is too deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _parse(text: bytes) -> Any:
    """Parse YAML; None if it is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a number of thousands of digits
        return None


def known_targets(config_dir: str | None = None) -> Targets:
    """Collect the targets that files of choices name, by the part of a configuration that they may stand in.

    A file of DIR/router is of the part "router"; a file that sets several parts, such as an experiment, is of each.

    Args:
        config_dir: a user's own directory of choices; those of conf/ are there in any case.

    Raises:
        ValueError: there is no such directory, or a file in it is no YAML.
    """
    found = {part: set(targets) for part, targets in FORMER.items()}
    for root in (CONF, *([own_choices(config_dir)] if config_dir is not None else [])):
        for part, target in targets_in(root):
            found.setdefault(part, set()).add(target)
    return {part: frozenset(targets) for part, targets in found.items()}


@functools.cache
def targets_in(root: Path) -> frozenset[tuple[str, str]]:
    """Collect the targets that files of choices below a directory name, each with the part that it may stand in."""
    found = set()
    for path in root.rglob("*.yaml"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        group = path.relative_to(root).parts[0]
        targets = [(keys, str(value)) for keys, value in _leaves(content) if keys[-1:] == ("_target_",)]
        found |= {(part, target) for keys, target in targets for part in (group, str(keys[0]))}
    return frozenset(found)


def _leaves(node: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """List the values that are no containers, with the keys that lead to each."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, (*keys, key))
    else:
        yield keys, node
