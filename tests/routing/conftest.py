"""Numbers that routers must give, computed independently of this project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """Votes (4, 48, 10, 16), child activations (4, 48), and the poses and activations of each router's parents.

    FM agreement was computed with NumPy in float64 by the literal double loop over pairs, dynamic and EM routing with
    TensorFlow.
    """
    arrays = np.load(Path(__file__).with_name("golden.npz"))
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="session")
def systems() -> dict[str, Tensor]:
    """Inputs and outputs of the field's other routers and layers in float64, by explicit loops in NumPy."""
    arrays = np.load(Path(__file__).with_name("systems.npz"))
    return {name: torch.from_numpy(arrays[name]) for name in arrays}
