"""Variational Bayes routing against golden numbers and by its properties."""

import pytest
import torch
from torch import Tensor

from capsbench.routing import VBRouting


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_golden_numbers(systems: dict[str, Tensor], iterations: int) -> None:
    router = VBRouting(5, iterations).double()
    router.beta_a.data, router.beta_u.data = systems["vb_beta_a"], systems["vb_beta_u"]
    votes, activations = systems["votes"], systems["child_activations"]
    for atol in (1e-8, 1e-4):
        for ending, normalise in (("raw_", False), ("", True)):
            found = router(votes, activations, normalise=normalise)
            for name, part in zip(("poses", "activations"), found, strict=True):
                golden = systems[f"vb{iterations}_{ending}{name}"]
                torch.testing.assert_close(part.double(), golden, atol=atol, rtol=0)
        router, votes, activations = router.float(), votes.float(), activations.float()


def test_evaluation_uses_running_statistics() -> None:
    router, votes = VBRouting(3), torch.randn(8, 7, 3, 4)
    first = router.eval()(votes, torch.ones(8, 7)).activations
    router.train()(votes, torch.ones(8, 7))
    assert not router.eval()(votes, torch.ones(8, 7)).activations.allclose(first)


def test_agreement_wins_children() -> None:
    votes = torch.randn(4, 20, 2, 8, generator=torch.Generator().manual_seed(0))
    votes[:, :, 1] = 0.1  # the children agree on the second parent, near the prior's mean
    _, logits = VBRouting(2)(votes, torch.ones(4, 20), normalise=False)
    assert (logits[:, 1] > logits[:, 0]).all()


def test_activations_are_needed_and_parents_counted() -> None:
    with pytest.raises(ValueError, match="VB routing weighs children by their activations"):
        VBRouting(3)(torch.randn(2, 7, 3, 4))
    with pytest.raises(ValueError, match="this VBRouting was made for 3 parents, got 4"):
        VBRouting(3)(torch.randn(2, 7, 4, 4), torch.ones(2, 7))
