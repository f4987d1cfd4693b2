"""Modules and files that are named where no import would notice: in the configuration, scripts and build files."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMING = [
    *sorted(ROOT.glob("conf/**/*.yaml")),
    *sorted(ROOT.glob("scripts/*")),
    *sorted(ROOT.glob(".ci/*")),
    *(ROOT / name for name in ("pyproject.toml", "Makefile", ".pre-commit-config.yaml", ".github/workflows/ci.yml")),
]
DOTTED = re.compile(r"(?<![\w./-])((?:capsbench|hydra_plugins)(?:\.\w+|:\w+)+)")
PATH = re.compile(r"(?<![\w.$/{}-])((?:src|tests|conf|docs|scripts|\.ci)/[\w./-]+)")


def exists(dotted: str) -> bool:
    """Whether a module, or a name in one, can be imported."""
    parts = re.split(r"[.:]", dotted)
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not ".".join(parts).startswith(error.name or ""):
                raise
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("file", NAMING, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_exists(file: Path) -> None:
    text = file.read_text()
    assert [name for name in DOTTED.findall(text) if not exists(name)] == []
    assert [name for name in PATH.findall(text) if not (ROOT / name.rstrip(".")).exists()] == []


def test_what_does_not_exist_is_noticed() -> None:
    assert not exists("capsbench.routing.NoSuchRouter")
    assert not exists("capsbench.nowhere")
    assert exists("capsbench.commands.cli:main")
    assert PATH.findall("pytest tests/routing conf/no.yaml $OUT/src/x") == ["tests/routing", "conf/no.yaml"]
