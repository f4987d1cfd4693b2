"""Options of every data set: a part of the training set to tune on, or to be quick."""

from typing import Any

import pytest
import torch

from capsbench.data import CIFAR10, Augmentation, BatchKey, Digits, FashionMNIST, ImageDataModule, SmallNORB
from capsbench.data.augmentation import random_crop
from capsbench.data.randomness import Draw
from capsbench.data.transforms import standardize


def digits(**options: Any) -> Digits:
    data = Digits(**options)
    data.setup()
    return data


def test_validation_split_is_stratified_and_held_out() -> None:
    data = digits(val_fraction=0.2)
    assert (data.num_examples("train"), data.num_examples("val"), data.num_examples("test")) == (1149, 288, 360)
    assert data.splits["val"].labels.bincount().tolist() == pytest.approx([28.8] * 10, abs=2)
    assert data.watched_split == "val"
    assert len(list(data.val_dataloader())) == 1
    train = {image.numpy().tobytes() for image in data.splits["train"].images}
    assert not train & {image.numpy().tobytes() for image in data.splits["val"].images}


def test_training_leaves_the_test_split_alone_where_a_part_is_held_out() -> None:
    data = Digits(val_fraction=0.2)
    data.setup("fit")
    data.setup("validate")
    assert data.splits.keys() == {"train", "val"}
    train = data.splits["train"]
    data.setup("test")
    assert data.num_examples("test") == 360
    assert data.splits["train"] is train


def test_validation_split_is_the_same_for_every_seed() -> None:
    first, second = (digits(val_fraction=0.2, seed=seed).splits["val"].images for seed in (1, 2))
    assert first.equal(second)


@pytest.mark.parametrize("kind", [CIFAR10, FashionMNIST, SmallNORB])
def test_each_class_has_a_name(kind: type[ImageDataModule]) -> None:
    assert kind.class_names is not None
    assert len(set(kind.class_names)) == kind.num_classes


@pytest.mark.parametrize(
    ("options", "side"), [({"resize": 40}, 40), ({"crop": 24}, 24), ({"resize": 40, "crop": 36}, 36)]
)
def test_the_network_sees_images_resized_and_cropped(options: dict[str, int], side: int) -> None:
    data = digits(**options)
    assert data.input_shape == (1, side, side)
    keys = {split: BatchKey(0, torch.arange(20)) for split in ("train", "test")}
    found = {split: data.batch(split, key) for split, key in keys.items()}
    assert {batch.images.shape for batch in found.values()} == {(20, *data.input_shape)}
    assert {batch.targets.shape for batch in found.values()} == {(20, 1, *data.input_shape)}


def test_evaluation_sees_the_middle_and_training_any_window() -> None:
    data, whole = digits(crop=24), digits()
    key = BatchKey(0, torch.arange(200))
    middle = whole.batch("test", key).images[:, :, 4:28, 4:28]
    assert data.batch("test", key).images.equal(middle)
    windows = whole.batch("train", key).images.unfold(2, 24, 1).unfold(3, 24, 1).flatten(2, 3)[:, 0]
    cropped = data.batch("train", key).images
    assert (windows == cropped).all(dim=(2, 3)).any(dim=1).all()
    assert not cropped.equal(windows[:, len(windows[0]) // 2, None])


def test_training_images_that_are_not_augmented_are_prepared_as_in_evaluation() -> None:
    data, key = digits(crop=24, augmentation=Augmentation(flip=True)), BatchKey(0, torch.arange(20))
    data.augments = False
    assert data.batch("train", key).images.equal(data.test_images(data.splits["train"].images[:20]))


def test_an_enlarged_image_keeps_its_content() -> None:
    key = BatchKey(0, torch.arange(20))
    small, large = (digits(**options).batch("test", key).images for options in ({}, {"resize": 64}))
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), small, atol=0.15, rtol=0)
    assert large.max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop": 33}, r"data\.crop must be at most 32, the side of an image, got 33"),
        ({"standardized": True, "augmentation": Augmentation(contrast=0.5)}, "contrast has no effect on digits: its"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _ = Digits(**options).input_shape


def test_without_one_the_test_split_is_watched() -> None:
    data = digits()
    assert data.watched_split == "test"
    assert data.num_examples("val") == 0
    assert not data.is_cut


def test_subset_is_stratified_and_marked() -> None:
    data = digits(subset=100)
    assert data.num_examples("train") == 100
    assert data.splits["train"].labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert data.num_examples("test") == 360
    assert data.is_cut


def test_a_part_of_the_test_set_is_stratified_and_marked() -> None:
    data = digits(test_subset=100)
    assert (data.num_examples("train"), data.num_examples("test")) == (1437, 100)
    assert data.splits["test"].labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert data.is_cut
    assert sum(len(batch.labels) for batch in data.val_dataloader()) == 100
    assert digits(test_subset=100, seed=2).splits["test"].images.equal(data.splits["test"].images)


def test_subset_of_what_is_left_after_validation() -> None:
    data = digits(val_fraction=0.5, subset=100)
    assert (data.num_examples("train"), data.num_examples("val")) == (100, 719)


def test_images_are_standardised_before_or_after_their_crop() -> None:
    options = {"standardized": True, "augmentation": Augmentation(crop_padding=4), "seed": 3}
    chosen = torch.arange(50)
    after, before = (
        digits(**options, standardize_before_crop=first).batch("train", BatchKey(0, chosen)).images
        for first in (False, True)
    )
    data = digits(**options)
    stored, draw = data.splits["train"].images[chosen], Draw(3, 0, chosen)
    torch.testing.assert_close(after.mean(dim=(1, 2, 3)), torch.zeros(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(before, random_crop(standardize(stored), 4, draw))
    assert (before == 0).flatten(1).any(dim=1).sum() > 40  # what was padded has the mean
    assert not before.isclose(after).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"standardize_before_crop": True}, r"data\.standardize_before_crop has no effect without data\.standardized"),
        ({"standardize_before_crop": True, "standardized": True, "augmentation": Augmentation(flip=True)}, "no effect"),
        ({"standardized": True, "augmentation": Augmentation(brightness=0.2)}, r"brightness has no effect with data\."),
        (
            {"standardize_before_crop": True, "standardized": True, "crop": 24}
            | {"augmentation": Augmentation(contrast=0.2)},
            r"are of bytes, which data\.standardize_before_crop",
        ),
        ({"resize": 0}, r"data\.resize must be at least 1, got 0"),
        ({"crop": 0}, r"data\.crop must be at least 1, got 0"),
        ({"subset": 2000}, r"data\.subset must be below the training set's 1437, got 2000"),
        ({"subset": 1437}, r"data\.subset must be below the training set's 1437, got 1437"),
        ({"subset": 0}, r"data\.subset must be at least 1, got 0"),
        ({"test_subset": 360}, r"data\.test_subset must be below the test set's 360, got 360"),
        ({"test_subset": 0}, r"data\.test_subset must be at least 1, got 0"),
        ({"test_subset": 3}, "does not fit this data set"),
        ({"subset": 3}, "does not fit this data set"),
        ({"val_fraction": 1.0}, r"data\.val_fraction must be at least 0 and below 1, got 1"),
        ({"val_fraction": -0.1}, r"data\.val_fraction must be at least 0"),
    ],
)
def test_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        digits(**options)
