"""Draws that are functions of what they are for."""

import torch

from capsbench.data.randomness import Draw, permutation


def test_a_draw_depends_on_the_example_not_on_its_batch() -> None:
    together = Draw(1, 2, torch.arange(100)).integers("crop row", 9)
    alone = Draw(1, 2, torch.tensor([57, 3])).integers("crop row", 9)
    assert alone.tolist() == [together[57].item(), together[3].item()]


def test_seed_epoch_and_purpose_each_change_the_draws() -> None:
    indices = torch.arange(1000)
    draws = [
        Draw(1, 0, indices).bits("a"),
        Draw(2, 0, indices).bits("a"),
        Draw(1, 1, indices).bits("a"),
        Draw(1, 0, indices).bits("b"),
    ]
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert not (first == second).any()
            correlation = torch.corrcoef(torch.stack([first, second]).double())[0, 1]
            assert abs(correlation) < 0.15


def test_integers_are_uniform() -> None:
    counts = Draw(0, 0, torch.arange(90_000)).integers("x", 9).bincount()
    assert len(counts) == 9
    chi_square = ((counts - 10_000) ** 2 / 10_000).sum()
    assert chi_square < 26.1  # 99.9 % quantile for 8 degrees of freedom


def test_uniform_covers_its_range() -> None:
    values = Draw(0, 0, torch.arange(100_000)).uniform("x", -20.0, 20.0)
    assert -20 <= values.min() < -19.9
    assert 19.9 < values.max() < 20
    assert abs(values.mean()) < 0.2


def test_permutation_is_one() -> None:
    order = permutation((1, "order", 0), 1000)
    assert order.sort().values.equal(torch.arange(1000))
    assert not order.equal(permutation((1, "order", 1), 1000))
    assert order.equal(permutation((1, "order", 0), 1000))


def test_every_order_of_three_is_reached() -> None:
    orders = {tuple(permutation((seed,), 3).tolist()) for seed in range(200)}
    assert len(orders) == 6
