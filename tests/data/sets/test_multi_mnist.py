"""Two digits in one image."""

from typing import Any

import pytest
import torch

from capsbench.data import Augmentation, BatchKey, LabelledImages, MultiMNIST


class FewDigits(MultiMNIST):
    """Thirty digits to train on and twenty to test on, which nothing confuses: odd bytes here, even bytes there."""

    def load(self, split: str) -> LabelledImages:
        number, last_bit = (30, 1) if split == "train" else (20, 0)
        generator = torch.Generator().manual_seed(last_bit)
        ink = torch.randint(1, 120, (number, 1, 28, 28), generator=generator) * 2 + last_bit
        return LabelledImages(ink.byte(), torch.arange(number) % 10)


@pytest.fixture
def data() -> FewDigits:
    data = FewDigits(per_digit=100, seed=5)
    data.setup()
    return data


def batch(data: FewDigits, split: str = "train", epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels, targets = data.batch(split, BatchKey(epoch, torch.arange(data.num_examples(split))))
    return images.mul(255).round().int(), labels, targets.mul(255).round().int()


def test_shapes_and_numbers(data: FewDigits) -> None:
    assert (data.num_examples("train"), data.num_examples("test")) == (3000, 2000)
    images, labels, parts = batch(data)
    assert images.shape == (3000, 1, 36, 36)
    assert labels.shape == (3000, 2)
    assert parts.shape == (3000, 2, 1, 36, 36)


def test_merged_is_the_capped_sum_of_the_parts(data: FewDigits) -> None:
    images, _, parts = batch(data)
    assert images.equal(parts.sum(dim=1).clamp_max(255))
    assert images.max() == 255


def test_the_two_classes_differ_and_all_pairs_appear(data: FewDigits) -> None:
    _, labels, _ = batch(data)
    assert (labels[:, 0] != labels[:, 1]).all()
    assert len(labels.unique(dim=0)) == 90


def test_parts_are_digits_of_their_label_shifted_by_up_to_four(data: FewDigits) -> None:
    _, labels, parts = batch(data)
    digits = data.splits["train"]
    shifts = set()
    for example in range(0, 3000, 17):
        for label, part in zip(labels[example], parts[example, :, 0], strict=True):
            row, column = (int(part.sum(dim=axis).nonzero()[0]) for axis in (1, 0))
            window = part[row : row + 28, column : column + 28]
            same = [i for i in range(30) if digits.images[i, 0].int().equal(window)]
            assert len(same) == 1
            assert digits.labels[same[0]] == label
            shifts |= {row - 4, column - 4}
    assert shifts == set(range(-4, 5))


def test_first_digit_follows_the_index(data: FewDigits) -> None:
    _, labels, _ = batch(data)
    assert labels[:, 0].equal(torch.arange(30).repeat_interleave(100) % 10)


def test_an_example_is_a_function_of_seed_split_and_index(data: FewDigits) -> None:
    images, labels, _ = batch(data)
    assert batch(data, epoch=7)[0].equal(images)
    alone = data.batch("train", BatchKey(3, torch.tensor([1234])))
    assert alone.images.mul(255).round().int()[0].equal(images[1234])
    other = FewDigits(per_digit=100, seed=6)
    other.setup()
    assert not batch(other)[1].equal(labels)
    assert batch(other, "test")[0].equal(batch(data, "test")[0])


def test_test_images_hold_test_digits_only(data: FewDigits) -> None:
    assert (batch(data, "test")[2] % 2 == 0).all()
    train = batch(data, "train")[2]
    assert (train[train > 0] % 2 == 1).all()


@pytest.mark.parametrize(
    ("split", "labels", "places"),
    [
        ("train", [[0, 6], [0, 4], [1, 0], [9, 0]], [(6, 0, 5, 0), (5, 1, 2, 5), (7, 1, 6, 4), (6, 3, 6, 3)]),
        ("test", [[0, 6], [0, 5], [1, 4], [9, 2]], [(2, 6, 8, 1), (4, 8, 6, 3), (6, 5, 1, 7), (2, 0, 0, 8)]),
    ],
)
def test_pinned_pairs_and_places(
    data: FewDigits, split: str, labels: list[list[int]], places: list[tuple[int, ...]]
) -> None:
    """Published numbers depend on these: which digits are merged, and the (row, column) of each."""
    made = data.batch(split, BatchKey(0, torch.tensor([0, 1, 100, 1999])))
    assert made.labels.tolist() == labels
    ink = made.targets[:, :, 0] > 0
    corners = torch.stack([ink.any(dim=axis).int().argmax(dim=2) for axis in (3, 2)], dim=2)
    assert corners.flatten(1).tolist() == [list(place) for place in places]


def test_a_larger_shift_cuts_off_what_lies_beyond_the_canvas() -> None:
    data = FewDigits(per_digit=100, seed=5, max_shift=6)
    data.setup()
    _, _, parts = batch(data)
    digits = data.splits["train"]
    seen = set()
    for example in range(0, 3000, 17):
        part = parts[example, 0, 0]
        digit = digits.images[example // 100, 0].int()
        found = [
            (row, column)
            for row in range(-2, 11)
            for column in range(-2, 11)
            if part.equal(torch.nn.functional.pad(digit, (column, 8 - column, row, 8 - row)))
        ]
        assert len(found) == 1
        seen |= {shift - 4 for shift in found[0]}
    assert seen == set(range(-6, 7))


@pytest.mark.parametrize("max_shift", [4, 6])
def test_the_first_digit_can_be_shifted_once_for_all_its_images(max_shift: int) -> None:
    once = FewDigits(per_digit=100, seed=5, max_shift=max_shift, shift_base="once")
    each = FewDigits(per_digit=100, seed=5, max_shift=max_shift)
    once.setup()
    each.setup()
    (_, labels, parts), (_, other_labels, other_parts) = batch(once), batch(each)
    first = parts[:, 0].view(30, 100, 36, 36)
    assert first.equal(first[:, :1].expand_as(first))
    corners = {
        tuple(shift)
        for shift in torch.stack([first[:, 0].sum(axis).ne(0).int().argmax(1) for axis in (2, 1)], 1).tolist()
    }
    assert len(corners) > 15
    assert labels.equal(other_labels)
    assert parts[:, 1].equal(other_parts[:, 1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_shift": 9}, "data.max_shift must be from 0 to 8, got 9"),
        ({"max_shift": -1}, "data.max_shift must be from 0 to 8, got -1"),
        ({"shift_base": "never"}, "data.shift_base must be each or once, got never"),
        ({"shift_base": "once", "max_shift": 0}, "data.shift_base=once has no effect with data.max_shift=0"),
        ({"shift_base": "once", "per_digit": 1}, "data.shift_base=once has no effect with data.per_digit=1"),
        ({"per_digit": 0}, "data.per_digit must be at least 1, got 0"),
        ({"standardized": True}, "Multi-MNIST does not accept data.standardized: decoders work in"),
        ({"augmentation": Augmentation(flip=True)}, "Multi-MNIST does not accept data.augmentation: its digits are"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MultiMNIST(**options)
