"""What a result holds must not change with what is irrelevant."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from capsbench.data import Batch, Digits
from capsbench.data.batch import LabelledImages
from capsbench.routing import Capsules
from capsbench.training import ClassificationModule, MarginLoss, evaluate


class Linear(nn.Module):
    """Capsules whose poses are scaled pixels: without batch norm, so that an example's outcome is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.activations = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Capsules:
        small = nn.functional.avg_pool2d(images, 4).flatten(1)
        return Capsules(small.unsqueeze(1).expand(-1, 10, -1), self.activations(small).sigmoid())


class Draw(nn.Module):
    """Draws the pose of a class, brighter for higher classes."""

    def forward(self, poses: Tensor, classes: Tensor) -> Tensor:
        drawn = poses[:, :1].unflatten(2, (1, 8, 8)).repeat_interleave(4, 3).repeat_interleave(4, 4)
        return drawn * (1 + classes[..., None, None, None] / 10)


class Halves(Digits):
    """Digits with two parts, and a companion: the first 50 test images."""

    def parts(self, split: str) -> Mapping[str, Tensor]:
        low = self.splits[split].labels < 3
        return {"low": low, "high": ~low, "none": low & ~low}

    def companions(self) -> Mapping[str, DataLoader[Batch]]:
        first = digits(Digits, eval_batch_size=self.eval_batch_size)
        first.splits["test"] = first.splits["test"].take(range(50))
        return {"first": first.test_dataloader()}


def network(lr: float = 0.0) -> ClassificationModule:
    torch.manual_seed(0)
    return ClassificationModule(
        Linear(),
        MarginLoss(),
        partial(torch.optim.SGD, lr=lr),
        num_classes=10,
        decoder=Draw(),
        reconstruction_weight=0.1,
    )


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        default_root_dir=folder, accelerator="cpu", enable_model_summary=False, use_distributed_sampler=False,
        **quiet | options,
    )  # fmt: skip


def digits(kind: type[Digits] = Halves, **options: Any) -> Digits:
    data = kind(**options)
    data.setup()
    return data


def shuffled(data: Digits, split: str) -> Digits:
    images, labels = data.splits[split]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    data.splits[split] = LabelledImages(images[order], labels[order])
    return data


@pytest.mark.parametrize("split", ["val", "test", "train"])
def test_batches_and_their_order_change_no_number(tmp_path: Path, split: str) -> None:
    found = [
        evaluate(trainer(tmp_path), network(), data, split)
        for data in (
            *(digits(val_fraction=0.2, eval_batch_size=size) for size in (512, 100, 7)),
            shuffled(digits(val_fraction=0.2, eval_batch_size=100), split),
        )
    ]
    first = found[0]
    assert {name.partition("/")[0] for name in first.metrics} == {split}
    for other in found[1:]:
        assert other.metrics == pytest.approx(first.metrics, rel=1e-6)
        assert other.confusion == first.confusion


def test_what_is_measured_is_what_every_example_gives(tmp_path: Path) -> None:
    module, data = network(), digits(eval_batch_size=100)
    metrics, confusion, _ = evaluate(trainer(tmp_path), module, data, "test")
    examples = [data.batch("test", key._replace(indices=key.indices[[i]]))  # one by one
                for key in data.test_dataloader().sampler for i in range(len(key.indices))]  # fmt: skip
    with torch.no_grad():
        outcomes = [module.outcome(batch) for batch in examples]
    correct = torch.tensor([(o.predicted == o.labels).item() for o in outcomes]).float()
    labels = torch.cat([o.labels[:, 0] for o in outcomes])
    assert metrics == pytest.approx(
        {
            "test/accuracy": correct.mean().item(),
            "test/loss": sum(o.loss.item() for o in outcomes) / len(outcomes),
            "test/reconstruction": sum(o.reconstruction.item() for o in outcomes) / len(outcomes),
            "test/accuracy_low": correct[labels < 3].mean().item(),
            "test/accuracy_high": correct[labels >= 3].mean().item(),
            "test/accuracy_first": correct[:50].mean().item(),
        },
        rel=1e-5,
    )
    counts = torch.tensor(confusion)
    assert counts.sum(dim=1).equal(labels.bincount())
    assert counts.diagonal().sum() == correct.sum()


def whole_training_split() -> tuple[float, float]:
    """Loss and accuracy of the training split in one batch."""
    (batch,) = digits(eval_batch_size=1437).evaluation_loader("train")
    with torch.no_grad():
        outcome = network().outcome(batch, training=True)
    return outcome.loss.item(), (outcome.predicted == outcome.labels).float().mean().item()


@pytest.mark.parametrize("batch_size", [100, 512, 1437])
def test_training_metrics_are_means_over_examples(tmp_path: Path, batch_size: int) -> None:
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(network(), datamodule=digits(batch_size=batch_size))
    found = [fitted.callback_metrics[f"train/{name}"].item() for name in ("loss", "accuracy")]
    assert found == pytest.approx(whole_training_split(), rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_sixteen_bits_round_activations_and_no_means(tmp_path: Path, precision: Any) -> None:
    fitted = trainer(tmp_path, max_epochs=1, precision=precision)
    data = digits(batch_size=10, eval_batch_size=10)
    fitted.fit(network(), datamodule=data)
    assert fitted.callback_metrics["train/loss"].item() == pytest.approx(whole_training_split()[0], rel=0.003)
    exact = evaluate(trainer(tmp_path), network(), digits(), "test").metrics
    rounded = evaluate(fitted, network(), data, "test").metrics
    for name in ("test/loss", "test/reconstruction"):
        assert rounded[name] == pytest.approx(exact[name], rel=0.003)


@pytest.mark.parametrize("batches", [1, 2, 8])
def test_a_step_of_several_batches_is_a_step_of_one_large_batch(tmp_path: Path, batches: int) -> None:
    """1437 digits in batches of 64 are 23, the last of them smaller: 8 to a step leave 7 for the last step."""
    weights = []
    for size, accumulated in ((64 * batches, 1), (64, batches)):
        module = network(lr=1.0)
        fitted = trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulated, limit_val_batches=0)
        fitted.fit(module, datamodule=digits(batch_size=size, seed=1))
        weights.append(module.model.activations.weight)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)


def test_a_part_that_is_left_out_by_a_limit_has_no_accuracy(tmp_path: Path) -> None:
    data = digits(eval_batch_size=50)
    rare = torch.zeros(360, dtype=torch.bool)
    rare[200:] = True
    data.parts = lambda split: {"rare": rare}  # type: ignore[method-assign, assignment]
    limited = evaluate(trainer(tmp_path, limit_test_batches=2), network(), data, "test")
    assert "test/accuracy_rare" not in limited.metrics
    assert "test/accuracy_rare" in evaluate(trainer(tmp_path), network(), data, "test").metrics
