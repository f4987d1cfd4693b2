"""Training itself, on a few real digits."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from capsbench.capsules import DeconvDecoder
from capsbench.data import Batch, BatchKey, Digits
from capsbench.models import ResNetCapsNet
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement, NonFiniteError, Router
from capsbench.training import (
    ClassificationModule,
    CrossEntropyLoss,
    History,
    MarginLoss,
    NaNGuard,
    SpreadLoss,
    Throughput,
)
from capsbench.training.nan_guard import blame


class FewDigits(Digits):
    """64 digits, to train and to test on."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        few = self.splits["train"].take(range(64))
        self.splits = {"train": few, "test": few}


def small_model(router: type[Router] = FMAgreement) -> ResNetCapsNet:
    return ResNetCapsNet((1, 32, 32), 10, router, blocks=(1, 1, 1), hidden_capsules=(), batch_norm_momentum=0.5)


def fit(
    module: ClassificationModule, folder: Path, epochs: int, *callbacks: lightning.Callback, **limits: int
) -> lightning.Trainer:
    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[NaNGuard(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **limits,
    )
    trainer.fit(module, datamodule=FewDigits(seed=1, batch_size=32))
    return trainer


def make_module(router: type[Router] = FMAgreement, loss: torch.nn.Module | None = None) -> ClassificationModule:
    lightning.seed_everything(1, verbose=False)
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    return ClassificationModule(small_model(router), loss or MarginLoss(), optimizer, num_classes=10)


@pytest.mark.parametrize("router", [FMAgreement, DynamicRouting, EMRouting])
def test_every_router_learns_a_few_digits_by_heart(router: type[Router], tmp_path: Path) -> None:
    trainer = fit(make_module(router, SpreadLoss()), tmp_path, epochs=15)
    assert trainer.callback_metrics["test/accuracy"] > 0.9


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    first, second = make_module(), make_module()
    for module in (first, second):
        fit(module, tmp_path, epochs=2)
        torch.manual_seed(123)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


def test_metrics_are_saved_to_resume_from_but_are_no_weights() -> None:
    module, resumed = make_module(), make_module()
    before = set(module.state_dict())
    assert before == {f"model.{name}" for name in module.model.state_dict()}
    module.metrics["train_loss"].update(torch.tensor(3.0))
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    assert set(module.state_dict()) == before
    resumed.on_load_checkpoint(checkpoint)
    resumed.metrics["train_loss"].update(torch.tensor(6.0))
    assert resumed.metrics["train_loss"].compute() == 4.5


def test_metrics_and_throughput(tmp_path: Path) -> None:
    throughput = Throughput()
    trainer = fit(make_module(), tmp_path, 2, throughput)
    assert {"train/loss", "train/accuracy", "test/loss", "test/accuracy"} <= set(trainer.callback_metrics)
    assert throughput.images_per_second > 0


class StopAfter(lightning.Callback):
    """Ends training in the middle of an epoch, as a limit on time does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


@pytest.mark.parametrize("steps", [1, 2])
def test_an_epoch_that_ends_early_has_the_loss_of_its_batches(tmp_path: Path, steps: int) -> None:
    losses: list[float] = []

    class Recorded(MarginLoss):
        def forward(self, *arguments: Any) -> torch.Tensor:
            loss: torch.Tensor = super().forward(*arguments)
            losses.append(loss.item())
            return loss

    trainer = fit(make_module(loss=Recorded()), tmp_path, 1, StopAfter(steps), limit_val_batches=0, min_epochs=0)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(sum(losses) / steps, rel=1e-6)


def test_spread_margin_grows_over_the_training(tmp_path: Path) -> None:
    seen = []

    class Watched(SpreadLoss):
        def forward(self, activations: torch.Tensor, labels: torch.Tensor, progress: float = 1.0) -> torch.Tensor:
            if activations.requires_grad:
                seen.append(progress)
            return super().forward(activations, labels, progress)

    fit(make_module(loss=Watched()), tmp_path, epochs=2)
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_a_loss_that_takes_the_step_is_told_it(tmp_path: Path) -> None:
    seen = []

    class Watched(SpreadLoss):
        def forward(
            self, activations: torch.Tensor, labels: torch.Tensor, progress: float = 1.0, step: int | float = 0
        ) -> torch.Tensor:
            if activations.requires_grad:
                seen.append(step)
            return super().forward(activations, labels, progress, step)

    fit(make_module(loss=Watched(schedule="sigmoid", steps=2)), tmp_path, epochs=2)
    assert seen == [0, 1, 2, 3]


def test_scheduler_steps_each_step(tmp_path: Path) -> None:
    module = ClassificationModule(
        small_model(),
        MarginLoss(),
        partial(torch.optim.SGD, lr=1.0),
        num_classes=10,
        scheduler=partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[2, 3], gamma=0.1),
        scheduler_interval="step",
    )
    trainer = fit(module, tmp_path, epochs=2)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("limit", [{}, {"max_steps": 3}])
def test_a_learned_scale_is_logged_as_it_ends(tmp_path: Path, limit: dict[str, int]) -> None:
    module = make_module(loss=CrossEntropyLoss(scale="learned"))
    history = History()
    fit(module, tmp_path, 2, history, **limit)
    logged = [row["train/loss_scale"] for row in history.epochs]
    assert len(set(logged)) == 2
    assert logged[-1] == module.loss.scale.item() != 1


def test_nan_in_a_weight_stops_the_run_and_names_the_layer(tmp_path: Path) -> None:
    module = make_module()
    with torch.no_grad():
        module.model.primary.conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layer primary\.conv \(Conv2d\) has weights that are not finite"):
        fit(module, tmp_path, epochs=1)


def test_nan_that_only_the_loss_sees_stops_the_run(tmp_path: Path) -> None:
    class Broken(MarginLoss):
        def forward(self, activations: torch.Tensor, labels: torch.Tensor, progress: float = 1.0) -> torch.Tensor:
            return super().forward(activations, labels) * float("nan")

    with pytest.raises(NonFiniteError, match=r"not finite at step 0.*the loss itself overflowed"):
        fit(make_module(loss=Broken()), tmp_path, epochs=1)


def test_blame_finds_votes_that_overflow() -> None:
    model = small_model()
    with torch.no_grad():
        model.capsule_layers[0].transform.weight.fill_(3e38)
    images = 1000 * torch.rand(2, 1, 32, 32)
    said = blame(model.eval(), images)
    assert said == "layer capsule_layers.0.transform (MatrixTransform) is the first whose output is not finite"
    model.capsule_layers[0].router.implementation = "fused"  # no layer gives the votes out
    said = blame(model, images)
    assert said.startswith("layer capsule_layers.0.router (FMAgreement)")
    assert "votes are NaN or infinite" in said


def test_blame_finds_images() -> None:
    images = torch.full((1, 1, 32, 32), float("nan"))
    batch = Batch(images, torch.tensor([0]), images.unsqueeze(1))
    assert make_module().blame(batch) == "the images themselves are not finite"


def with_decoder(**options: Any) -> ClassificationModule:
    lightning.seed_everything(1, verbose=False)
    model = small_model()
    return ClassificationModule(
        model,
        MarginLoss(),
        partial(torch.optim.Adam, lr=3e-3),
        num_classes=10,
        decoder=DeconvDecoder((1, 32, 32), 10, model.pose_dim),
        **options,
    )


def test_nan_in_the_decoder_stops_the_run_and_names_its_layer(tmp_path: Path) -> None:
    module = with_decoder()
    with torch.no_grad():
        module.decoder.layers[0].weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layer layers\.0 \(Linear\) has weights that are not finite"):
        fit(module, tmp_path, epochs=1)


def test_reconstruction_is_learned_and_counts_in_the_loss(tmp_path: Path) -> None:
    module = with_decoder(reconstruction_weight=0.005)
    first = fit(module, tmp_path, epochs=1).callback_metrics
    last = fit(module, tmp_path, epochs=20).callback_metrics
    assert last["train/reconstruction"] < 0.7 * first["train/reconstruction"]
    batch = FewDigits(seed=1, batch_size=32)
    batch.setup()
    images, labels, targets = batch.batch("test", BatchKey(0, torch.arange(64)))
    with torch.no_grad():
        capsules = module.eval()(images)
        error = (module.decoder(capsules.poses, labels[:, None]) - targets).square().sum() / 64
        expected = module.loss(capsules.activations, labels) + 0.005 * error
    assert last["test/loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_a_negative_reconstruction_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder\.loss_weight must be at least 0, got -1"):
        with_decoder(reconstruction_weight=-1.0)


def test_the_decoder_trains_the_network_through_the_pose() -> None:
    module = with_decoder()
    poses = module(torch.rand(4, 1, 32, 32)).poses
    module.decoder(poses, torch.tensor([[0], [1], [2], [3]])).sum().backward()
    assert module.model.primary.conv.weight.grad.abs().sum() > 0


def test_nan_in_the_images_of_a_plain_loader_is_told_and_kept(tmp_path: Path) -> None:
    images = torch.full((32, 1, 32, 32), torch.nan)
    loader = DataLoader(TensorDataset(images, torch.zeros(32, dtype=torch.int64)), batch_size=32)
    guard = NaNGuard(tmp_path / "nonfinite.ckpt")
    trainer = lightning.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=1,
        callbacks=[guard],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(NonFiniteError, match="images"):
        trainer.fit(make_module(), loader)
