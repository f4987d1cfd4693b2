"""Images per second of data loading: batches prepared at once against the usual dataset and workers; files read."""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from capsbench.benchmarks.measure import Measurement, ratios
from capsbench.data import Augmentation, Batch, ImageDataModule, ImageFolder, LabelledImages, MultiMNIST
from capsbench.data.batch import StoredSplit

NUM_IMAGES = 10_000
BATCH_SIZE = 128
WORKERS = 2
NUM_FILES = 2_000
SIDE = 64
"""Pixels of a picture in a file."""
OURS, USUAL = "a batch at once", f"image by image, {WORKERS} workers"


class RandomPictures(ImageDataModule):
    """Noise in the shape of CIFAR-10, prepared and augmented like it."""

    image_shape = (3, 32, 32)
    num_classes = 10
    title = "random pictures"
    num_images: int | None = None

    def load(self, split: StoredSplit) -> LabelledImages:
        """Make images from a fixed seed, the same for both splits."""
        count = self.num_images or NUM_IMAGES
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, *self.image_shape), generator=generator, dtype=torch.uint8)
        return LabelledImages(images, torch.arange(count) % self.num_classes)


class RandomDigits(MultiMNIST):
    """Multi-MNIST made of noise: the same work without MNIST's files."""

    def load(self, split: StoredSplit) -> LabelledImages:
        """Make images from a fixed seed, the same for both splits."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (NUM_IMAGES, 1, 28, 28), generator=generator, dtype=torch.uint8)
        return LabelledImages(images, torch.arange(NUM_IMAGES) % self.num_classes)


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The usual dataset: each image is made a PIL image and transformed by itself."""

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


def benchmark_data(repetitions: int = 5) -> list[Measurement]:
    """Measure an epoch of loading, each way `repetitions` times in turn.

    Returns:
        Images per second of each way, how many times as fast as the usual way ours is, and how many pictures are read
        from files in a second.
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
    ways: dict[tuple[str, str], Callable[[], Iterable[Batch | list[Tensor]]]] = {
        (pictures.title, OURS): pictures.train_dataloader,
        (pictures.title, USUAL): lambda: usual,
        (digits.title, OURS): digits.train_dataloader,
    }
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for repetition in range(repetitions + 1):
        for way, loader in ways.items():
            start = time.perf_counter()
            for _ in loader():
                pass
            if repetition:  # the first warms up, and starts the workers
                rates[way].append(NUM_IMAGES / (time.perf_counter() - start))
    found = [
        Measurement.of(values, subject, "loading", "images/s", implementation=way)
        for (subject, way), values in rates.items()
    ]
    faster = ratios(rates[pictures.title, OURS], rates[pictures.title, USUAL])
    unit = "times as fast as image by image"
    read = Measurement.of(reading_rates(repetitions), f"JPEG files of {SIDE}×{SIDE}", "reading", "images/s")
    return [*found, Measurement.of(faster, pictures.title, "loading", unit, implementation=OURS), read]


def reading_rates(repetitions: int) -> list[float]:
    """Measure how many pictures in files are read in a second, `repetitions` times."""
    with tempfile.TemporaryDirectory() as place:
        generator = np.random.default_rng(0)
        for number in range(NUM_FILES):
            path = Path(place, ("train", "test")[number < 2], str(number % 2), f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            blocks = generator.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
            Image.fromarray(blocks).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(path)
        data, rates = ImageFolder(path=place), []
        for _ in range(repetitions):
            start = time.perf_counter()
            data.load("train")
            rates.append((NUM_FILES - 2) / (time.perf_counter() - start))
    return rates
