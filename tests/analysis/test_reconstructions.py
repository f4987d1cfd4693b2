"""Reconstructions, with a network whose answers are known."""

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from capsbench.analysis import write_pictures
from capsbench.analysis.pose_tours import pose_tours
from capsbench.analysis.reconstructions import reconstruct, two_digit_examples
from capsbench.data import BatchKey, Digits, LabelledImages, MultiMNIST
from capsbench.routing import Capsules
from capsbench.training import ClassificationModule, MarginLoss


class TwoDigits(MultiMNIST):
    """Patches whose brightness is their class, 12 of each."""

    def load(self, split: str) -> LabelledImages:
        labels = torch.arange(120) % 10
        images = torch.zeros(120, 1, 28, 28, dtype=torch.uint8)
        images[:, :, 4:24, 4:24] = (20 * (labels + 1)).to(torch.uint8)[:, None, None, None]
        return LabelledImages(images, labels)


class Knows(nn.Module):
    """Knows the labels of a split by heart, but takes every 9 for a 2. Pose j is the number j."""

    pose_dim = 4

    def __init__(self, data: TwoDigits) -> None:
        super().__init__()
        self.images, labels, _ = data.batch("test", BatchKey(0, torch.arange(data.num_examples("test"))))
        labels = torch.where(labels == 9, 2, labels)
        self.activations = nn.Parameter(nn.functional.one_hot(labels, 10).sum(dim=1).clamp_max(1).float())

    def forward(self, images: torch.Tensor) -> Capsules:
        found = torch.cdist(images.flatten(1), self.images.flatten(1)).argmin(dim=1)
        poses = torch.arange(10.0)[None, :, None].expand(len(images), -1, self.pose_dim)
        return Capsules(poses, self.activations[found])


class Shades(nn.Module):
    """Draws the pose's number as a shade."""

    def forward(self, poses: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        shade = poses.gather(1, chosen.unsqueeze(2).expand(-1, -1, poses.shape[2]))[..., 0] / 10
        return shade[..., None, None, None].expand(-1, -1, 1, 36, 36)


@pytest.fixture(scope="module")
def data() -> TwoDigits:
    data = TwoDigits(per_digit=2)
    data.setup()
    return data


@pytest.fixture
def module(data: TwoDigits) -> ClassificationModule:
    return ClassificationModule(Knows(data), MarginLoss(), torch.optim.SGD, num_classes=10, decoder=Shades())


def pairs(classes: torch.Tensor) -> list[set[int]]:
    return [set(pair) for pair in classes.tolist()]


def test_the_predicted_classes_are_decoded_unless_others_are_named(
    module: ClassificationModule, data: TwoDigits
) -> None:
    batch = data.batch("test", BatchKey(0, torch.arange(6)))
    found = reconstruct(module, batch)
    assert found.chosen.equal(found.predicted)
    assert found.decoded[:, :, 0, 0, 0].mul(10).round().long().equal(found.predicted)
    other = reconstruct(module, batch, torch.tensor([[3, 4]] * 6))
    assert other.decoded[:, :, 0, 0, 0].mul(10).round().long().tolist() == [[3, 4]] * 6
    assert other.predicted.equal(found.predicted)


def test_the_columns_of_table_5(module: ClassificationModule, data: TwoDigits) -> None:
    shown, starred = two_digit_examples(module, data)
    labels, predicted, chosen = pairs(shown.labels), pairs(shown.predicted), pairs(shown.chosen)
    assert len(starred) == 20
    right = [i for i in range(20) if labels[i] == predicted[i] and not starred[i]]
    wrong = [i for i in range(20) if labels[i] != predicted[i]]
    assert len(right) == 10
    assert all(shown.chosen[i].equal(shown.labels[i]) for i in right)  # so that colours follow the labels
    assert len(wrong) == 5
    assert all(chosen[i] == predicted[i] and not starred[i] for i in wrong)
    for i in set(range(20)) - set(right) - set(wrong):
        assert starred[i]
        assert len(chosen[i] & labels[i]) == 1
        assert not (chosen[i] - labels[i]) & predicted[i]


def test_classes_can_be_forced(module: ClassificationModule, data: TwoDigits) -> None:
    shown, starred = two_digit_examples(module, data, [7, 0])
    forced = [pair for pair, star in zip(shown.chosen.tolist(), starred, strict=True) if star]
    assert forced
    assert all(pair == [7, 0] for pair in forced)
    for labels, star in zip(pairs(shown.labels), starred, strict=True):
        assert not star or len(labels & {7, 0}) == 1


@pytest.mark.parametrize("classes", [[7, 7], [7], [7, 10], [-1, 2], [1, 2, 3]])
def test_classes_that_are_not_two_different_ones(
    module: ClassificationModule, data: TwoDigits, tmp_path: Path, classes: list[int]
) -> None:
    with pytest.raises(ValueError, match="classes must be 2 different classes from 0 to 9, got"):
        write_pictures(module, data, tmp_path, classes)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_decoder(module: ClassificationModule, data: TwoDigits, tmp_path: Path) -> None:
    module.decoder = None
    with pytest.raises(ValueError, match=r"no decoder; train one with decoder=deconv or decoder=dense"):
        write_pictures(module, data, tmp_path)
    with pytest.raises(ValueError, match="no decoder"):
        pose_tours(module, data)


def test_pictures_are_written(module: ClassificationModule, data: TwoDigits, tmp_path: Path) -> None:
    paths = write_pictures(module, data, tmp_path / "pictures")
    # 9 is never recognised, so there is nothing to vary.
    assert [path.stem for path in paths] == ["reconstructions", *(f"pose_tour_{number}" for number in range(9))]
    overlay = imread(paths[0])[..., :3]
    green, magenta = (overlay[..., 1] > overlay[..., 0] + 0.1).sum(), (overlay[..., 0] > overlay[..., 1] + 0.1).sum()
    assert min(green, magenta) > 1000


class FirstPixel(nn.Module):
    """Ten classes told apart by nothing but the label that a test set is made with."""

    pose_dim = 3

    def __init__(self, data: Digits) -> None:
        super().__init__()
        self.images, self.labels, _ = data.batch("test", BatchKey(0, torch.arange(data.num_examples("test"))))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> Capsules:
        found = torch.cdist(images.flatten(1), self.images.flatten(1)).argmin(dim=1)
        activations = nn.functional.one_hot(self.labels[found], 10).float()
        poses = torch.stack([found.float() * 0, found.float(), found.float() * 0 + 1], dim=1)
        return Capsules(self.scale * poses[:, None].expand(-1, 10, -1), activations)


class Sees(nn.Module):
    """Draws the second number of a pose as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, poses: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        picked = poses.gather(1, chosen.unsqueeze(2).expand(-1, -1, poses.shape[2]))[:, 0]
        self.seen.append(picked)
        return picked[:, 1].sigmoid()[:, None, None, None, None].expand(-1, 1, 1, 32, 32)


def test_a_tour_varies_one_dimension_at_a_time_by_two_deviations() -> None:
    data = Digits()
    data.setup()
    module = ClassificationModule(FirstPixel(data), MarginLoss(), torch.optim.SGD, num_classes=10, decoder=Sees())
    tours = pose_tours(module, data)
    assert list(tours) == list(range(10))
    seen = module.decoder.seen[3].view(3, 11, 3)
    labels = data.splits["test"].labels
    places = (labels == 3).nonzero()[:, 0].float()
    assert seen[1, 5].tolist() == [0, places[0], 1]
    assert seen[1, :, 1].sub(places[0]).div(places.std()).tolist() == pytest.approx(
        [x / 5 * 2 for x in range(-5, 6)], abs=1e-4
    )
    assert seen[0].equal(seen[0, :1].expand(11, -1))
    assert seen[2, :, 1].unique().numel() == 1
