"""Translated MNIST to train on, affNIST or its generator to test on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.data import AffNIST, Augmentation, BatchKey, DataError, LabelledImages
from capsbench.data.affine import Affine, transform, warp
from capsbench.data.batch import Described
from capsbench.data.files import DataFile, FileSet
from capsbench.data.sets.affnist import generate


class FourDigits(AffNIST):
    """Four patches of ink for digits."""

    def load(self, split: str) -> LabelledImages:
        generator = torch.Generator().manual_seed(0)
        images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
        images[:, :, 4:24, 4:24] = torch.randint(1, 256, (4, 1, 20, 20), generator=generator, dtype=torch.uint8)
        digits = LabelledImages(images, torch.arange(4))
        self.test_digits = digits
        return digits if split == "train" else generate(digits, self.per_digit, self.reach)


@pytest.fixture
def data() -> FourDigits:
    data = FourDigits(test_source="generated", per_digit=50)
    data.setup()
    return data


def test_every_place_is_reached_and_pixels_are_exact(data: FourDigits) -> None:
    places = set()
    for epoch in range(400):
        images, labels, _ = data.batch("train", BatchKey(epoch, torch.arange(4)))
        for image, digit in zip(images, data.splits["train"].images[labels], strict=True):
            bytes_ = image.mul(255).round().byte()[0]
            row, column = (bytes_.sum(dim=axis).nonzero()[0].item() - 4 for axis in (1, 0))
            assert bytes_[row : row + 28, column : column + 28].equal(digit[0])
            assert bytes_.sum() == digit.sum()
            places.add((row, column))
    assert places == {(row, column) for row in range(13) for column in range(13)}


def test_placement_is_new_each_epoch_and_repeats(data: FourDigits) -> None:
    def images(epoch: int) -> torch.Tensor:
        return data.batch("train", BatchKey(epoch, torch.arange(4))).images

    assert images(0).equal(images(0))
    assert not images(0).equal(images(1))


def test_digits_are_placed_also_where_nothing_is_augmented(data: FourDigits) -> None:
    data.augments = False
    first, second = (data.batch("train", BatchKey(epoch, torch.arange(4))).images for epoch in (0, 1))
    assert first.shape == (4, 1, 40, 40)
    assert first.equal(second)


def test_pinned_places(data: FourDigits) -> None:
    """Published numbers depend on these: (row, column) of each digit in two epochs."""
    found = []
    for epoch in (0, 1):
        ink = data.batch("train", BatchKey(epoch, torch.arange(4))).images[:, 0] > 0
        corners = [ink.any(dim=axis).int().argmax(dim=1) - 4 for axis in (2, 1)]
        found.append(torch.stack(corners, dim=1).tolist())
    assert found == [[[0, 3], [2, 12], [10, 9], [8, 12]], [[2, 8], [3, 3], [3, 6], [10, 9]]]


def test_digits_held_out_are_placed_too_and_stay() -> None:
    data = FourDigits(test_source="generated", per_digit=2)
    data.setup()
    data.splits["val"] = data.splits["train"]
    first, again = (data.batch("val", BatchKey(epoch, torch.arange(4))).images for epoch in (0, 5))
    assert first.shape == (4, 1, 40, 40)
    assert first.equal(again)
    assert first.mul(255).round().sum(dim=(1, 2, 3)).equal(data.splits["val"].images.sum(dim=(1, 2, 3)).float())


def test_generated_images_lose_no_ink_and_stay_the_same(data: FourDigits) -> None:
    test = data.splits["test"]
    assert test.images.shape == (200, 1, 40, 40)
    assert test.labels.bincount().tolist() == [50] * 4
    again = FourDigits(test_source="generated", per_digit=50, seed=9)
    again.setup()
    assert again.splits["test"].images.equal(test.images)
    # A patch of area 400 keeps its ink up to the scales' product; none is cut off at the border.
    area = (test.images > 0).sum(dim=(1, 2, 3)).float()
    assert 400 * 0.8**2 * 0.95 < area.min() < area.max() < 400 * 1.2**2 * 1.2


def test_generated_images_lie_all_over_the_canvas(data: FourDigits) -> None:
    rows = (data.splits["test"].images[:, 0] > 0).any(dim=2).int().argmax(dim=1)
    assert rows.min() <= 1
    assert rows.max() >= 14


@pytest.mark.parametrize("reach", [6, 5])
def test_generated_images_within_a_reach(reach: int) -> None:
    data = FourDigits(test_source="generated", per_digit=200, placement=reach)
    data.setup()
    test = data.splits["test"]
    assert isinstance(test, Described)
    for shift in test.info[:, 4:].T:
        assert set(shift.tolist()) == set(range(-reach, reach + 1))
    anywhere = generate(data.splits["train"], 200)
    assert test.info[:, :4].equal(anywhere.info[:, :4])
    affine = Affine(*test.info.T)
    assert test.images.equal(transform(data.splits["train"].images.repeat_interleave(200, 0), affine, 40))
    assert list(data.parts("test")) == ["trained_places"]


def test_parts_by_place(data: FourDigits) -> None:
    parts = data.parts("test")
    ink = data.splits["test"].images[:, 0] > 0
    # A patch is symmetric about its centre, so the middle of its ink tells how far it was shifted.
    centre = [
        (lines.int().argmax(dim=1) + 39 - lines.flip(1).int().argmax(dim=1)) / 2 - 19.5
        for lines in (ink.any(dim=1), ink.any(dim=2))
    ]
    shift = torch.stack(centre, dim=1).abs().amax(dim=1)
    assert parts["trained_places"].equal(~parts["other_places"])
    assert shift[parts["trained_places"]].max() <= 6.5
    assert shift[parts["other_places"]].min() >= 6.5
    assert not data.parts("train")


def test_parts_follow_a_part_of_the_test_set(data: FourDigits) -> None:
    fewer = FourDigits(test_source="generated", per_digit=50, test_subset=40)
    fewer.setup()
    assert fewer.num_examples("test") == 40
    known = {
        image.numpy().tobytes(): is_trained.item()
        for image, is_trained in zip(data.splits["test"].images, data.parts("test")["trained_places"], strict=True)
    }
    expected = [known[image.numpy().tobytes()] for image in fewer.splits["test"].images]
    assert fewer.parts("test")["trained_places"].tolist() == expected


def test_the_companion_is_the_test_digits_at_places_of_training(data: FourDigits) -> None:
    other = FourDigits(test_source="generated", per_digit=50, seed=9)
    other.setup()
    ((name, loader),) = data.companions().items()
    (batch,), (again,) = list(loader), list(other.companions()["translated"])
    assert name == "translated"
    assert batch.images.equal(again.images)
    assert batch.labels.tolist() == [0, 1, 2, 3]
    assert batch.images.shape == (4, 1, 40, 40)
    assert batch.images.mul(255).round().sum(dim=(1, 2, 3)).equal(data.test_digits.images.sum(dim=(1, 2, 3)).float())


def test_pinned_places_of_the_companion(data: FourDigits) -> None:
    (batch,) = data.companions()["translated"]
    ink = batch.images[:, 0] > 0
    corners = [ink.any(dim=axis).int().argmax(dim=1) - 4 for axis in (2, 1)]
    assert torch.stack(corners, dim=1).tolist() == [[0, 3], [2, 12], [10, 9], [8, 12]]


def test_an_exhaustive_epoch_has_each_digit_at_each_place() -> None:
    data = FourDigits(test_source="generated", per_digit=1, places="exhaustive")
    data.setup()
    assert data.num_examples("train") == 4 * 169
    images, labels, _ = data.batch("train", BatchKey(0, torch.arange(4 * 169)))
    assert labels.equal(torch.arange(4).repeat_interleave(169))
    assert len({image.numpy().tobytes() for image in images}) == 4 * 169
    digits = data.splits["train"].images[labels].sum(dim=(1, 2, 3)).float()
    assert images.mul(255).round().sum(dim=(1, 2, 3)).equal(digits)
    assert data.batch("train", BatchKey(5, torch.arange(4 * 169))).images.equal(images)


def test_an_exhaustive_epoch_comes_digit_after_digit() -> None:
    """A buffer mixes about 300 digits, so the first half of the epoch shows about half of them."""

    class Many(FourDigits):
        def load(self, split: str) -> LabelledImages:
            digits = LabelledImages(torch.zeros(1500, 1, 28, 28, dtype=torch.uint8), torch.arange(1500) % 10)
            return digits if split == "train" else generate(digits.take(range(4)), 1)

    data = Many(test_source="generated", per_digit=1, places="exhaustive", seed=1, batch_size=169)
    data.setup()
    digits = [key.indices // 169 for key in data.train_dataloader().sampler]
    assert len(digits) == 1500
    assert torch.cat(digits).bincount().tolist() == [169] * 1500
    assert all(max(batch) < 297 + step for step, batch in enumerate(digits))
    assert 850 < len(torch.cat(digits[:750]).unique()) < 1047


def numbers(value: float) -> torch.Tensor:
    return torch.tensor([value])


def warp_one(image: torch.Tensor, **changes: float) -> torch.Tensor:
    settings = {"rotation": 0.0, "shear": 0.0, "scale_x": 1.0, "scale_y": 1.0} | changes
    return warp(image[None, None], **{name: numbers(value) for name, value in settings.items()})[0, 0]


@pytest.fixture
def bar() -> torch.Tensor:
    """A bar to the right of the centre."""
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[13:15, 14:24] = 255
    return image


def ink_center(image: torch.Tensor) -> tuple[float, float]:
    """(x to the right, y upward) of the ink's centre of mass, from the canvas's centre."""
    weights = image.double() / image.double().sum()
    steps = torch.arange(64) - 31.5
    return (weights.sum(0) @ steps.double()).item(), -(weights.sum(1) @ steps.double()).item()


def test_no_change_is_exact(bar: torch.Tensor) -> None:
    assert warp_one(bar)[18:46, 18:46].equal(bar)


def test_rotation_is_counter_clockwise(bar: torch.Tensor) -> None:
    x, y = ink_center(warp_one(bar, rotation=90.0))
    assert x == pytest.approx(0, abs=0.1)
    assert y == pytest.approx(5, abs=0.1)


def test_scale(bar: torch.Tensor) -> None:
    assert ink_center(warp_one(bar, scale_x=1.2))[0] == pytest.approx(6, abs=0.1)
    tall = warp_one(bar, scale_y=2.0)
    assert (tall > 127).any(dim=1).sum() == 4


def test_shear_moves_what_is_above_to_the_right() -> None:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    image[3:5, 13:15] = 255  # ten pixels above the centre
    x, y = ink_center(warp_one(image, shear=0.2))
    assert x == pytest.approx(2, abs=0.1)
    assert y == pytest.approx(10, abs=0.1)


def test_without_the_official_file_the_way_out_is_named(tmp_path: Path) -> None:
    missing = FileSet("affnist", (DataFile("test.mat", None, ("http://127.0.0.1:9/x.zip",), None, 1.0),))
    kind = type("Missing", (AffNIST,), {"source": missing, "digits": FileSet("mnist", ()), "__module__": __name__})
    with pytest.raises(DataError, match=r"Or test on generated images: data\.test_source=generated"):
        kind(data_dir=tmp_path).prepare_data()
    kind(data_dir=tmp_path, val_fraction=0.1).prepare_data()  # it is not tested


def test_title_says_which_test_set() -> None:
    assert AffNIST(test_source="generated").title == "affNIST (generated)"
    assert AffNIST().title == "affNIST"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_digit": 0}, "data.per_digit must be at least 1, got 0"),
        ({"per_digit": 4}, "data.per_digit=4 has no effect with data.test_source=official; leave it out"),
        ({"placement": 6}, "data.placement=6 has no effect with data.test_source=official; leave it out"),
        ({"placement": 4, "test_source": "generated"}, "data.placement must be uncut, 6, 5, got 4"),
        ({"places": "all"}, "data.places must be fresh or exhaustive, got all"),
        ({"test_source": "mine"}, "data.test_source must be official or generated, got mine"),
        ({"standardized": True}, "affNIST does not accept data.standardized: decoders work in"),
        ({"augmentation": Augmentation(crop_padding=4)}, "affNIST does not accept data.augmentation: its digits are"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AffNIST(**options)


def test_real_digits(shared: Path) -> None:
    data = AffNIST(data_dir=shared / "data", test_source="generated", per_digit=1)
    data.prepare_data()
    data.setup()
    assert data.num_examples("train") == 60_000
    assert data.splits["test"].images.shape == (10_000, 1, 40, 40)
