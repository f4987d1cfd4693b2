"""Batch norm of routers: its parameters and statistics have at least 32 bits."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from capsbench.routing import HitOrMiss, Router, RouterFactory, VBRouting
from capsbench.routing.batch_norm import BatchNorm

ROUTERS: list[RouterFactory] = [partial(HitOrMiss, 3, 4, batch_norm_momentum=1.0), partial(VBRouting, 3)]


def dtypes(norm: BatchNorm) -> set[torch.dtype]:
    return {tensor.dtype for tensor in norm.state_dict().values() if tensor.is_floating_point()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_cast_leaves_at_least_32_bits(dtype: torch.dtype) -> None:
    norm = torch.nn.Sequential(BatchNorm(3)).to(dtype)[0]
    assert dtypes(norm) == {torch.promote_types(dtype, torch.float32)}
    assert norm.num_batches_tracked.dtype == torch.int64
    assert norm(torch.randn(5, 3, dtype=dtype)).dtype == dtype
    assert norm.to("meta").weight.is_meta


def test_one_made_in_16_bits_has_32_once_it_is_moved() -> None:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        norm = BatchNorm(3).to(torch.bfloat16)
    finally:
        torch.set_default_dtype(default)
    assert dtypes(norm) == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", ROUTERS)
def test_routers_of_16_bits_normalise_in_32(make: RouterFactory, dtype: torch.dtype) -> None:
    """Sums of 1,152 children have a variance above 65,504, the largest number of float16."""
    torch.manual_seed(0)
    wide = make()
    narrow: Router = deepcopy(wide).to(dtype)
    votes, activations = (10 * torch.randn(64, 1152, 3, 4)).to(dtype), torch.rand(64, 1152).to(dtype)
    for training in (True, False):
        ours = narrow.train(training)(votes, activations)
        theirs = wide.train(training)(votes.float(), activations.float())
        torch.testing.assert_close(ours.poses, theirs.poses.to(dtype))
        torch.testing.assert_close(ours.activations, theirs.activations.to(dtype))
