"""What routers offer and compute."""

from functools import partial

import pytest
import torch

from capsbench.benchmarks.routers import NoRouting, implement, implementations, operations
from capsbench.capsules import CapsuleLayer, Capsules, FullTransform, RouterFactory
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement

CHILDREN = Capsules(torch.randn(3, 5, 4), torch.rand(3, 5))
VOTES = 3 * 5 * 2 * 8  # elements
PRODUCTS = VOTES * 4


def layer(router: RouterFactory) -> CapsuleLayer:
    made = CapsuleLayer(FullTransform(5, 2, 4, 8), router)
    implement(made, "plain")
    return made


def test_operations_of_products_and_of_elements_are_counted_apart() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert operations(lambda: a @ b) == (3 * 4 * 5, 0)
    assert operations(lambda: (a * a).sum()) == (0, 12 + 12)
    assert operations(lambda: a.softmax(dim=1)) == (0, 12)
    assert operations(lambda: a.clone().view(12)) == (0, 0), "what only moves numbers is no arithmetic"


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
def test_all_routers_need_the_products_that_form_the_votes(router: RouterFactory) -> None:
    assert operations(partial(layer(router), CHILDREN))[0] == PRODUCTS
    assert operations(partial(layer(NoRouting), CHILDREN))[0] == PRODUCTS


def test_more_iterations_are_more_operations_on_elements() -> None:
    one, three = (operations(partial(layer(partial(DynamicRouting, iterations=n)), CHILDREN))[1] for n in (1, 3))
    # Each further iteration multiplies votes by the parents and sums, weighs votes and sums.
    assert three - one >= 2 * 4 * VOTES
    assert operations(partial(layer(NoRouting), CHILDREN))[1] < VOTES < one


def test_the_implementations_of_a_router_follow_from_what_it_takes(own: dict[str, RouterFactory]) -> None:
    assert implementations(layer(FMAgreement)) == ("plain", "fused", "auto")
    assert implementations(layer(own["mine"])) == ("auto",)
