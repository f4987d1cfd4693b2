"""Random numbers that are functions of (seed, purpose, epoch, index)."""

import pytest
import torch

from capsbench.data.randomness import Draw, buffered_order, permutation, random_bits


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


# Published numbers depend on the values below. A change that makes one of these tests fail changes all of them.
INDICES = torch.tensor([0, 1, 2, 59_999, 5_999_999])


def test_pinned_bits() -> None:
    assert random_bits((1, "order", 0), INDICES).tolist() == [
        -5126760008621678937,
        -7181116293212596182,
        5811381568074147245,
        7324438235664300625,
        -9015211268242288525,
    ]


def test_pinned_order_of_an_epoch() -> None:
    assert permutation((1, "order", 0), 10).tolist() == [1, 4, 8, 0, 7, 3, 9, 6, 2, 5]
    assert permutation((1, "order", 1), 10).tolist() == [8, 6, 2, 1, 5, 7, 9, 4, 3, 0]
    assert permutation((2, "order", 0), 10).tolist() == [6, 1, 2, 7, 4, 0, 3, 8, 5, 9]
    assert permutation((1, "order", 0), 60_000)[:6].tolist() == [21961, 36431, 41110, 8702, 58196, 10488]


@pytest.mark.parametrize(("length", "buffer"), [(1000, 30), (31, 30), (30, 30), (5, 30), (40, 1)])
def test_a_buffer_gives_each_number_once_and_never_too_early(length: int, buffer: int) -> None:
    order = buffered_order((1, "order", 0), length, buffer)
    assert sorted(order.tolist()) == list(range(length))
    assert (order - torch.arange(length)).max() < buffer


def test_a_buffer_gives_what_a_list_gives_from_which_one_is_taken_after_the_other() -> None:
    length, buffer = 2000, 50
    order = buffered_order((3, "order", 1), length, buffer).tolist()
    held, places = list(range(buffer)), []
    for step, number in enumerate(order[:-buffer]):
        places.append(held.index(number))
        held[places[-1]] = buffer + step
    assert sorted(held) == sorted(order[-buffer:])
    counts = torch.tensor(places).bincount(minlength=buffer)
    assert 15 < counts.min() < counts.max() < 70
    assert order != buffered_order((3, "order", 2), length, buffer).tolist()


def test_pinned_buffered_order() -> None:
    assert buffered_order((1, "order", 0), 12, 4).tolist() == [1, 0, 5, 3, 4, 2, 7, 9, 6, 11, 10, 8]


def test_pinned_integers() -> None:
    assert Draw(1, 0, INDICES).integers("crop row", 9).tolist() == [7, 6, 3, 1, 2]
    assert Draw(7, 3, INDICES).integers("crop row", 13).tolist() == [10, 12, 4, 0, 4]
    one_each = torch.tensor([1, 9, 1000, 2**31, 2])
    assert Draw(7, 3, INDICES).integers("crop column", one_each).tolist() == [0, 6, 620, 994411259, 1]


def test_pinned_uniform_numbers() -> None:
    degrees = Draw(1, 0, INDICES).uniform("rotation", -20.0, 20.0).tolist()
    assert degrees == pytest.approx([-11.2743301, -11.5628671, -4.6192722, -0.9519920, -8.5246963], abs=1e-5)
    shares = Draw(7, 3, INDICES).uniform("x").tolist()
    assert shares == pytest.approx([0.3977515, 0.7715061, 0.6602704, 0.0469767, 0.3678436], abs=1e-6)
