"""Which examples make which batch, alone and between ranks."""

from itertools import chain

import pytest
import torch

from capsbench.data.sampler import EpochSampler


def batches(rank: int = 0, world_size: int = 1, epoch: int = 0) -> list[list[int]]:
    sampler = EpochSampler(103, 10, seed=1, shuffle=True, device=torch.device("cpu"), rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    found = [key.indices.tolist() for key in sampler]
    assert len(found) == len(sampler)
    return found


def test_covers_the_epoch() -> None:
    assert sorted(chain(*batches())) == list(range(103))


def test_ranks_share_each_batch() -> None:
    whole, shares = batches(), [batches(rank, 3) for rank in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(chain(*parts)) == sorted(batch)


def test_no_batch_is_a_single_example() -> None:
    def sizes(examples: int, batch_size: int) -> list[int]:
        sampler = EpochSampler(examples, batch_size, seed=1, shuffle=False, device=torch.device("cpu"))
        found = [len(key.indices) for key in sampler]
        assert len(found) == len(sampler)
        return found

    assert sizes(21, 10) == [10, 11]
    assert sizes(22, 10) == [10, 10, 2]
    assert sizes(3, 1) == [1, 1, 1]
    assert sizes(1, 10) == [1]


def test_fewer_examples_than_ranks() -> None:
    with pytest.raises(ValueError, match="leave 2 of 12 examples for the last, too few for 3 devices"):
        EpochSampler(12, 10, seed=1, shuffle=False, device=torch.device("cpu"), world_size=3)


def test_another_epoch_has_another_order() -> None:
    assert batches(epoch=0) != batches(epoch=1)


def test_examples_in_order_are_those_of_the_first_epoch() -> None:
    sampler = EpochSampler(103, 10, seed=1, shuffle=False, device=torch.device("cpu"))
    sampler.set_epoch(7)  # as Lightning does after training
    assert {key.epoch for key in sampler} == {0}


def test_a_buffered_epoch_goes_on_where_it_stopped() -> None:
    def batches(done: int) -> list[list[int]]:
        sampler = EpochSampler(500, 10, seed=1, shuffle=True, buffer=60, device=torch.device("cpu"), done=lambda: done)
        return [key.indices.tolist() for key in sampler]

    assert sorted(chain(*batches(0))) == list(range(500))
    assert max(batches(0)[0]) < 70
    assert batches(13) == batches(0)[13:]
