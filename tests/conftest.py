"""Shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

os.environ.setdefault("WANDB_SILENT", "true")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when kernels are defined


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of real data and golden numbers, which users do not have."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, which developers and CI have")
    return SHARED
