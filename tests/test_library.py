"""The layers alone: what they need, the networks that the docs show, and types."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from capsbench import capsules, models, routing

ROOT = Path(__file__).parents[1]
ALONE = """
import importlib.machinery, importlib.metadata, re, sys

def normed(name):
    return re.sub("[-_.]+", "-", name).lower()

needed, left = set(), {"torch", "jaxtyping"}  # and what these need themselves
while left:
    needed.add(name := left.pop())
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # of another system
        continue
    left |= {normed(re.match(r"[\\w.-]+", each)[0]) for each in required if "extra ==" not in each} - needed
owners = importlib.metadata.packages_distributions()
refused = {module for module, names in owners.items() if not needed & {normed(name) for name in names}} - {"capsbench"}

class Needed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Needed
assert {"numpy", "einops", "hydra", "lightning"} <= refused
import capsbench.capsules, capsbench.routing
assert "torch._dynamo" not in sys.modules, "the compiler takes seconds to load"
"""


def blocks(page: str) -> list[str]:
    """What a page shows of capsule layers in Python."""
    found = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if "CapsuleLayer(" in block]


def test_the_network_of_the_readme_has_15_lines_and_learns() -> None:
    (block,) = blocks("README.md")
    assert len([line for line in block.splitlines() if line.strip()]) == 15
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["activations"].shape == (64, 10)
    assert names["poses"].shape == (64, 10, 16)
    assert names["loss"] < 0.5  # at first about log 10


def test_the_layers_of_the_docs() -> None:
    (block,) = blocks("docs/models.md")
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["parents"].poses.shape == (4, 10, 16)


def test_layers_need_torch_and_jaxtyping_only() -> None:
    subprocess.run([sys.executable, "-c", ALONE + "".join(blocks("README.md"))], check=True)


def test_no_public_module_returns_any() -> None:
    """PyTorch's own modules do."""
    for package in (routing, capsules, models):
        for name in package.__all__:
            kind = getattr(package, name)
            if inspect.isclass(kind) and issubclass(kind, nn.Module):
                ours = [base for base in kind.__mro__ if base.__module__.startswith("capsbench.")]
                assert any("__call__" in inspect.get_annotations(base) for base in ours), name


USER = """
from functools import partial
from typing import assert_type

import torch
from torch import Tensor

from capsbench.capsules import (
    CapsuleLayer, Capsules, ConvCapsuleLayer, DenseDecoder, FullTransform, MatrixTransform, PrimaryCapsules,
)
from capsbench.models import CapsNet
from capsbench.routing import EMRouting, FMAgreement, Router, make_router, squash, vote_sums

primary = PrimaryCapsules(3, 4, 8, map_size=(8, 8), kernel_size=3)
children = primary(torch.rand(2, 3, 8, 8))
assert_type(children, Capsules)
assert_type(children.poses, Tensor)
transform = FullTransform(num_children=36, num_parents=3, child_dim=8, pose_dim=16)
assert_type(transform(children.poses), Tensor)
for router in (FMAgreement, FMAgreement(), partial(EMRouting, iterations=2)):
    layer = CapsuleLayer(transform, router)
    assert_type(layer(children), Capsules)
    assert_type(layer.router, Router)
assert_type(CapsuleLayer(transform, FMAgreement)(children.poses), Capsules)
conv = ConvCapsuleLayer(MatrixTransform(16, 3, 4), EMRouting, grid=(3, 3), kernel_size=2)
assert_type(conv(children), Capsules)
assert_type(FMAgreement()(torch.rand(2, 7, 3, 4)).activations, Tensor)
made = make_router(FMAgreement, num_children=7, num_parents=3, pose_dim=4, feeds_capsules=False)
assert_type(made, Router)
assert_type(squash(torch.rand(3)), Tensor)
assert_type(vote_sums(torch.rand(2, 7, 3, 4), normalize=True), tuple[Tensor, Tensor])
assert_type(CapsNet((1, 28, 28), 10, FMAgreement)(torch.rand(2, 1, 28, 28)), Capsules)
assert_type(DenseDecoder((1, 8, 8), 3, 16)(children.poses, torch.zeros(2, 1, dtype=torch.int64)), Tensor)
"""
WRONG = """
CapsuleLayer(transform, "fm")
CapsuleLayer(transform, FMAgreement, vote_norm="batch")
FMAgreement(scale="half")
"""


@pytest.mark.engines  # mypy reads all of PyTorch
def test_mypy_sees_the_types_of_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "user.py"
    path.write_text(USER + WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    first = len(USER.splitlines()) + 2
    assert re.findall(r"user\.py:(\d+): error", done.stdout) == [str(first + number) for number in range(3)], (
        done.stdout
    )
