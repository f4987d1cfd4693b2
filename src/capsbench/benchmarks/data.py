"""Batches a second: whole batches from memory against the usual way, on the same work."""

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from capsbench.benchmarks.measure import spread
from capsbench.data import Augmentation, Batch, ImageDataModule, LabelledImages, MultiMNIST

NUM_IMAGES = 10_000
BATCH_SIZE = 128
WORKERS = 2


class RandomPictures(ImageDataModule):
    """Noise in the shape of CIFAR-10, prepared and augmented like it."""

    image_shape = (3, 32, 32)
    num_classes = 10
    title = "random pictures"
    num_images: int | None = None

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Bytes from a fixed seed."""
        count = self.num_images or NUM_IMAGES
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, *self.image_shape), generator=generator, dtype=torch.uint8)
        split = LabelledImages(images, torch.arange(count) % self.num_classes)
        return split, split


class RandomDigits(MultiMNIST):
    """Multi-MNIST made from noise: the same work without MNIST's files."""

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Bytes from a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (NUM_IMAGES, 1, 28, 28), generator=generator, dtype=torch.uint8)
        split = LabelledImages(images, torch.arange(NUM_IMAGES) % self.num_classes)
        return split, split


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The usual way: an image is taken out, made a PIL image, and transformed by itself."""

    def __init__(self, split: LabelledImages) -> None:
        self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Lambda(_standardize_one),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def _standardize_one(image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std(correction=0).clamp_min(1 / np.sqrt(image.numel()))


def benchmark_data(repetitions: int = 5) -> dict[str, dict[str, float]]:
    """Images per second of an epoch, each way `repetitions` times in turn.

    Returns:
        For each way the median, least and most images per second; for the first also its ratio to the usual way,
        taken repetition by repetition, median, least and most.
    """
    pictures = RandomPictures(
        standardized=True, augmentation=Augmentation(crop_padding=4, flip=True), batch_size=BATCH_SIZE
    )
    digits = RandomDigits(per_digit=1, batch_size=BATCH_SIZE)
    pictures.setup()
    digits.setup()
    usual = DataLoader(
        OneByOne(pictures.splits["train"]),
        BATCH_SIZE,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    ways: dict[str, Callable[[], Iterable[Batch | list[Tensor]]]] = {
        "whole batches": pictures.train_dataloader,
        "one by one, 2 workers": lambda: usual,
        "Multi-MNIST": digits.train_dataloader,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, loader in ways.items():
            start = time.perf_counter()
            for _ in loader():
                pass
            if repetition:  # the first warms up, and starts the workers
                rates[name].append(NUM_IMAGES / (time.perf_counter() - start))
    ratios = [
        ours / theirs for ours, theirs in zip(rates["whole batches"], rates["one by one, 2 workers"], strict=True)
    ]
    summary = {name: spread(values) for name, values in rates.items()}
    return summary | {"whole batches ÷ one by one": spread(ratios)}
