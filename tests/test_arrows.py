"""Who may import whom: downward only, and no framework where plain PyTorch is promised."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "capsbench"

ALLOWED = {
    "routing": {"routing"},
    "capsules": {"capsules", "routing"},
    "models": {"models", "capsules", "routing"},
    "data": {"data"},
    "training": {"training", "data", "models", "capsules", "routing"},
    "benchmarks": {"benchmarks", "training", "data", "models", "capsules", "routing"},
    "analysis": {"analysis", "training", "data", "models", "capsules", "routing"},
    "experiments": {"experiments", "analysis", "training", "data", "models", "capsules", "routing"},
    "reports": {
        "reports",
        "benchmarks",
        "experiments",
        "analysis",
        "training",
        "data",
        "models",
        "capsules",
        "routing",
    },
}
PLAIN_PYTORCH = ("routing", "capsules", "models")
FRAMEWORKS = {"lightning", "pytorch_lightning", "hydra", "omegaconf", "wandb"}
KNOW_HYDRA = {
    "analyze.py",
    "settings.py",
    "single_run.py",
    "sweep.py",
    "status.py",
    "assemble.py",
    "train.py",
    "report.py",
    "benchmark.py",
    "data_command.py",
    "errors.py",
}


def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_folder_has_its_arrows() -> None:
    folders = {path.parent.name for path in PACKAGE.rglob("__init__.py")} - {"capsbench"}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    modules = imports(path)
    folder = path.relative_to(PACKAGE).parts[0]
    if folder in ALLOWED:
        inner = {name.split(".")[1] for name in modules if name.startswith("capsbench.")}
        assert inner <= ALLOWED[folder], f"{folder} may not import {inner - ALLOWED[folder]}"
    frameworks = {name.split(".")[0] for name in modules} & FRAMEWORKS
    if folder in PLAIN_PYTORCH:
        assert not frameworks
    if path.name not in KNOW_HYDRA:
        assert not frameworks & {"hydra", "omegaconf"}
    if path.name != "dashboard.py":  # where the W&B account is asked for
        assert "wandb" not in frameworks


def test_wandb_is_imported_late() -> None:
    """Importing a command costs no wandb, and does not need the workspace's package."""
    for path in FILES:
        top = {alias.name for node in ast.parse(path.read_text()).body for alias in getattr(node, "names", [])}
        if path != PACKAGE / "reports" / "workspace.py":
            assert not any(name.startswith("wandb") for name in top), path
