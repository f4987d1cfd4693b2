"""Who may import whom: downward only, and no framework where plain PyTorch is promised."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "capsbench"
FLOORS = {"routing": 0, "data": 0, "capsules": 1, "models": 2, "inference": 3, "training": 3, "analysis": 4, "runs": 5}
FLOORS |= {"launch": 6, "reports": 6, "benchmarks": 6, "commands": 7}
"""A folder imports itself and what lies on lower floors."""
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def imports(path: Path) -> set[str]:
    """Every name a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    below = {name for name, floor in FLOORS.items() if floor < FLOORS[folder]} | {folder}
    names = imports(path)
    assert {name.split(".")[1] for name in names if name.startswith("capsbench.")} & FLOORS.keys() <= below
    packages = {name.split(".")[0] for name in names}
    if folder in ("routing", "capsules", "models", "inference"):
        assert not packages & {"lightning", "pytorch_lightning", "wandb"}
    if folder not in ("launch", "commands"):
        assert not packages & {"hydra", "omegaconf"}


def test_wandb_is_imported_late() -> None:
    for path in FILES:
        top = {alias.name for node in ast.parse(path.read_text()).body for alias in getattr(node, "names", [])}
        assert path.name == "workspace.py" or not any(name.startswith("wandb") for name in top), path
