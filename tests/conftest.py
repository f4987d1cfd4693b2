"""Shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("WANDB_SILENT", "true")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of real data and golden numbers, which users do not have."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which developers and CI have")
    return SHARED
