"""The embedded data set, and through it the mechanism all data sets share."""

import pytest
import torch

from capsbench.data import Augmentation, Batch, Digits


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits(seed=3, batch_size=64, augmentation=Augmentation(crop_padding=4, flip=True))
    data.setup()
    return data


def epoch(data: Digits, number: int = 0) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def test_split_is_fixed_stratified_and_disjoint(digits: Digits) -> None:
    other = Digits(seed=99)
    other.setup()
    assert other.splits["train"].images.equal(digits.splits["train"].images)
    assert len(digits.splits["train"].labels) == 1437
    assert len(digits.splits["test"].labels) == 360
    assert digits.splits["test"].labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    every = torch.cat([digits.splits["train"].images, digits.splits["test"].images])
    assert every.shape == (1797, 1, 32, 32)
    assert every.dtype == torch.uint8
    assert len(every.unique(dim=0)) == 1797


def test_an_epoch_holds_each_example_once(digits: Digits) -> None:
    batches = epoch(digits)
    assert [len(batch.labels) for batch in batches] == [64] * 22 + [29]
    assert torch.cat([b.labels for b in batches]).bincount().equal(digits.splits["train"].labels.bincount())


def test_epochs_repeat_exactly_and_differ_from_each_other(digits: Digits) -> None:
    first, again, second = epoch(digits, 0), epoch(digits, 0), epoch(digits, 1)
    assert all(a.images.equal(b.images) and a.labels.equal(b.labels) for a, b in zip(first, again, strict=True))
    assert not first[0].images.equal(second[0].images)


def test_the_global_generator_is_not_used(digits: Digits) -> None:
    torch.manual_seed(0)
    first = epoch(digits)[5]
    torch.manual_seed(1)
    assert epoch(digits)[5].images.equal(first.images)


def test_images_are_in_the_unit_range(digits: Digits) -> None:
    batch = next(iter(digits.test_dataloader()))
    assert batch.images.dtype == torch.float32
    assert batch.images.min() == 0
    assert batch.images.max() == 1


def test_test_split_comes_in_order_and_unchanged(digits: Digits) -> None:
    batches = list(digits.test_dataloader())
    assert torch.cat([b.labels for b in batches]).equal(digits.splits["test"].labels)
    assert torch.cat([b.images for b in batches]).mul(255).round().byte().equal(digits.splits["test"].images)


@pytest.mark.parametrize("option", ["batch_size", "eval_batch_size"])
def test_sizes_must_be_positive(option: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{option} must be at least 1, got 0"):
        Digits(**{option: 0})
