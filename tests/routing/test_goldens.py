"""All three routers against numbers computed independently of this project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from capsbench.routing import DynamicRouting, EMRouting, FMAgreement


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Tensor]:
    arrays = np.load(shared / "golden" / "routing.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), atol=tolerance, rtol=0)


def test_fm(golden: dict[str, Tensor]) -> None:
    parents = FMAgreement()(golden["votes"])
    assert_near(parents.poses, golden["fm_poses"], 1e-5)
    assert_near(parents.activations, golden["fm_activations"], 1e-5)
    assert_near(FMAgreement(normalize_pose=False)(golden["votes"]).poses, golden["fm_s"], 1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_dynamic(golden: dict[str, Tensor], iterations: int) -> None:
    parents = DynamicRouting(iterations)(golden["votes"])
    assert_near(parents.poses, golden[f"dynamic{iterations}_poses"], 1e-4)
    assert_near(parents.activations, golden[f"dynamic{iterations}_squash_factor"], 1e-4)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_em(golden: dict[str, Tensor], iterations: int) -> None:
    router = EMRouting(golden["votes"].shape[2], iterations)
    with torch.no_grad():
        router.beta_a.copy_(golden["em_beta_a"])
        router.beta_v.copy_(golden["em_beta_v"])
    parents = router(golden["votes"], golden["child_activations"])
    assert_near(parents.poses.detach(), golden[f"em{iterations}_poses"], 1e-4)
    assert_near(parents.activations.detach(), golden[f"em{iterations}_activations"], 1e-4)
