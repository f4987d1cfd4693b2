"""Images with any number of labels: what is predicted, what is measured, and the weights of classes."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, multilabel_confusion_matrix
from torch import Tensor, nn

from capsbench.data import Arrays, Batch, Digits
from capsbench.routing import Capsules
from capsbench.training import (
    CentripetalLoss,
    ClassificationModule,
    CrossEntropyLoss,
    MarginLoss,
    SpreadLoss,
    evaluate,
)
from capsbench.training.metrics import AveragePrecision

LOSSES = [
    MarginLoss(),
    MarginLoss(reduction="mean"),
    CrossEntropyLoss(),
    CrossEntropyLoss(normalize=True),
    SpreadLoss(),
]
LOSSES += [CentripetalLoss()]
CLASSES = 4


class Linear(nn.Module):
    """Activations beyond [0, 1], in either direction."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.linear = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Capsules:
        activations = 4 * self.linear(nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)) + 0.5
        return Capsules(activations.unsqueeze(2).expand(-1, -1, 2), activations)


@pytest.fixture
def data(tmp_path: Path) -> Arrays:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 8, 8), dtype=np.uint8)
    labels = generator.random((90, CLASSES)) < 0.4
    labels[60:, 3] = False  # no test image has the last label
    np.savez(tmp_path / "x.npz", x_train=images[:60], y_train=labels[:60], x_test=images[60:], y_test=labels[60:])
    return Arrays(path=tmp_path / "x.npz", batch_size=16, eval_batch_size=7)


def network(classes: int = CLASSES, loss: nn.Module | None = None, **options: Any) -> ClassificationModule:
    torch.manual_seed(0)
    lr = options.pop("lr", 0.0)
    optimizer = partial(torch.optim.SGD, lr=lr)
    return ClassificationModule(Linear(classes), loss or MarginLoss(), optimizer, num_classes=classes, **options)


def trainer(**options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        accelerator="cpu", enable_model_summary=False, use_distributed_sampler=False, **quiet | options
    )


def test_what_is_measured_is_scikit_learns(data: Arrays) -> None:
    """Whatever the batches; a label that no image has counts as 0 in F1, as there, and not at all in mAP."""
    data.setup()
    module = network(labels_per_image=None)
    measured = evaluate(trainer(), module, data, "test")
    (batch,) = Arrays.evaluation_loader(_in_one_batch(data), "test")
    with torch.no_grad():
        scores, labels = module(batch.images).activations.numpy(), batch.labels.numpy()
    predicted = scores > 0.5
    averages = [average_precision_score(labels[:, c], scores[:, c]) for c in range(CLASSES - 1)]
    assert measured.metrics == pytest.approx(
        {
            "test/exact_match": accuracy_score(labels, predicted),
            "test/f1": f1_score(labels, predicted, average="macro", zero_division=0),
            "test/map": np.mean(averages),
            "test/loss": MarginLoss()(torch.from_numpy(scores), batch.labels).item(),
        },
        rel=1e-5,
    )
    assert measured.confusion is None
    assert measured.by_label is not None
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    counts = [[row[name] for name in names] for row in measured.by_label]
    assert counts == multilabel_confusion_matrix(labels, predicted).reshape(CLASSES, 4).tolist()
    assert [row["average_precision"] for row in measured.by_label[:-1]] == pytest.approx(averages)
    assert "average_precision" not in measured.by_label[-1]


def _in_one_batch(data: Arrays) -> Arrays:
    data.eval_batch_size = 1000
    return data


def test_training_measures_each_epoch_and_goes_on_from_a_checkpoint(data: Arrays, tmp_path: Path) -> None:
    whole, module = trainer(max_epochs=2), network(labels_per_image=None, lr=0.1)
    whole.fit(module, datamodule=data)
    expected = {"train/exact_match", "train/f1", "train/loss", "test/exact_match", "test/f1", "test/map", "test/loss"}
    assert set(whole.callback_metrics) == expected
    first, other = trainer(max_epochs=1), network(labels_per_image=None, lr=0.1)
    first.fit(other, datamodule=Arrays(path=data.path, batch_size=16, eval_batch_size=7))
    first.save_checkpoint(tmp_path / "half.ckpt")
    second, other = trainer(max_epochs=2), network(labels_per_image=None, lr=0.1)
    again = Arrays(path=data.path, batch_size=16, eval_batch_size=7)
    second.fit(other, datamodule=again, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, weights in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], weights)
    assert second.callback_metrics == whole.callback_metrics


def test_average_precision_follows_the_order_alone() -> None:
    """Batches with activations beyond 1 and without are on one scale."""
    metric, together = AveragePrecision(2), AveragePrecision(2)
    activations = torch.tensor([[0.2, 0.9], [0.1, 0.4], [3.0, -2.0], [0.15, 0.95]])
    labels = torch.tensor([[1, 0], [0, 1], [0, 0], [1, 1]])
    for part in (slice(0, 2), slice(2, 4)):
        metric.update(activations[part], labels[part])
    together.update(activations, labels)
    expected = average_precision_score(labels, activations)
    assert metric.compute().item() == pytest.approx(expected) == together.compute().item()
    nothing = AveragePrecision(2)
    nothing.update(activations, 0 * labels)
    assert nothing.compute() == 0


def test_the_margin_loss_takes_labels_in_either_form() -> None:
    activations, labels = torch.rand(5, 4), torch.tensor([[0, 1], [1, 3], [2, 0], [3, 2], [0, 3]])
    rows = torch.zeros(5, 4).scatter(1, labels, 1.0).bool()
    for loss in (MarginLoss(), MarginLoss(reduction="mean")):
        assert loss(activations, rows) == loss(activations, labels)
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert MarginLoss()(torch.tensor([[0.3, 0.0, 0.0, 0.0]]), none).item() == pytest.approx(0.5 * 0.2**2)


@pytest.mark.parametrize("loss", LOSSES[2:], ids=lambda loss: type(loss).__name__)
def test_other_losses_say_which_takes_several_labels(loss: nn.Module) -> None:
    said = "this loss takes one label for each image, got any number; use loss=margin"
    with pytest.raises(ValueError, match=said):
        loss(torch.rand(3, 4), torch.ones(3, 4, dtype=torch.bool))


def test_a_decoder_needs_to_know_how_many_labels_there_are() -> None:
    with pytest.raises(ValueError, match="these images have any number; use decoder=none"):
        network(labels_per_image=None, decoder=nn.Identity())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_weight_counts_an_example_so_often(loss: nn.Module) -> None:
    activations, labels, weights = (
        torch.rand(6, 4).double(),
        torch.tensor([0, 1, 2, 3, 0, 1]),
        torch.tensor([3, 1, 1, 2, 3, 1]),
    )
    often = torch.arange(6).repeat_interleave(weights)
    expected = loss(activations[often], labels[often]) * len(often) / 6
    torch.testing.assert_close(loss(activations, labels, weights=weights.double()), expected)
    torch.testing.assert_close(loss(activations, labels, weights=torch.ones(6).double()), loss(activations, labels))


def digits(**options: Any) -> Digits:
    return Digits(subset=100, test_subset=50, batch_size=100, **options)


def test_classes_are_weighted_in_training_and_not_in_evaluation() -> None:
    found = {}
    for name, weights in {"none": None, "2": [2] * 10, "one": [1] * 9 + [50]}.items():
        fitted, module = trainer(max_epochs=1), network(classes=10)
        fitted.fit(module, datamodule=digits(class_weights=weights))
        found[name] = {key: value.item() for key, value in fitted.callback_metrics.items()}
    assert found["2"]["train/loss"] == pytest.approx(2 * found["none"]["train/loss"])
    assert found["one"]["train/loss"] > 2 * found["none"]["train/loss"]
    for name in ("2", "one"):
        assert found[name]["test/loss"] == found["none"]["test/loss"]


def test_a_loss_of_ones_own_that_takes_no_weights_is_refused() -> None:
    class Own(nn.Module):
        def forward(self, activations: Tensor, labels: Tensor, progress: float) -> Tensor:
            return activations.sum()

    with pytest.raises(ValueError, match=r"data\.class_weights has no effect: Own takes no weights; leave it out"):
        trainer(max_epochs=1).fit(network(classes=10, loss=Own()), datamodule=digits(class_weights="balanced"))


def test_predictions_are_what_is_above_one_half() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Capsules:
            return Capsules(torch.zeros(1, 4, 2), torch.tensor([[0.7, 0.5, -1.0, 0.51]]))

    module = ClassificationModule(Fixed(), MarginLoss(), torch.optim.SGD, num_classes=4, labels_per_image=None)
    batch = Batch(torch.zeros(1, 1, 8, 8), torch.tensor([[True, False, False, True]]), torch.zeros(1, 1, 1, 8, 8))
    assert module.outcome(batch).predicted.tolist() == [[True, False, False, True]]
    assert math.isfinite(module.outcome(batch).loss)
