"""How routing goes while a network trains: spread of votes, entropy of the coupling, dead parents."""

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional as F

from capsbench.data.batch import as_batch
from capsbench.routing import Capsules, LazyVotes, NonFiniteError, Router
from capsbench.training.losses import multi_hot
from capsbench.training.module import ClassificationModule

log = logging.getLogger(__name__)

IMAGES = 64
"""Of the first batch of an evaluation, at most, which routing is measured on."""
DEAD = 0.01
"""A parent is dead if no image gives it an activation above this share of its layer's mean, both as magnitudes."""
ONE_CLASS, BALANCED = 0.9, 0.5
"""Warn where so large a share of the images is predicted to show one class, while labels show none that often."""
STEPS = 100
"""Training steps before which one class for all is nothing to warn of."""


class RoutingDiagnostics(lightning.Callback):
    """Measure at each evaluation during the training how routing goes; no other number changes.

    Logs what `diagnose` measures of each capsule layer, as `val/vote_std/LAYER` and so on, and `val/most_predicted`:
    the share of all images that are predicted to show the class that is predicted most. Warns once if that is nearly
    all of them. Where there is no validation split, these are of the test split, as other metrics are.
    """

    def __init__(self) -> None:
        self.has_warned = False
        self._found: dict[str, float] = {}
        self._counts: Tensor | None = None

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._found, self._counts = {}, None

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not _is_watched(trainer) or not isinstance(pl_module, ClassificationModule):
            return
        images, labels, *_ = as_batch(batch)
        shown = [multi_hot(classes, pl_module.num_classes).sum(dim=0) for classes in (outputs, labels)]
        counts = F.pad(torch.stack(shown), (0, 1), value=len(images))  # (predicted or labelled, class; all images)
        self._counts = counts if self._counts is None else self._counts + counts
        if batch_idx == 0 and trainer.is_global_zero:
            with trainer.precision_plugin.forward_context():
                self._found = diagnose(pl_module.model, lambda: pl_module.model(images[:IMAGES]))

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not _is_watched(trainer) or not isinstance(pl_module, ClassificationModule):
            return
        nothing = torch.zeros(2, pl_module.num_classes + 1, dtype=torch.int64, device=pl_module.device)
        counts = trainer.strategy.reduce(nothing if self._counts is None else self._counts, reduce_op="sum")
        if not trainer.is_global_zero:
            return
        predicted, labelled = (counts[:, :-1] / counts[:, -1:].clamp_min(1)).cpu()
        split = pl_module.watched_split
        found = {**self._found, "most_predicted": float(predicted.max())}
        told = {f"{split}/{name}": value for name, value in found.items()}
        pl_module.log_dict(told, on_epoch=True, batch_size=1, rank_zero_only=True, sync_dist=True)
        if predicted.max() >= ONE_CLASS and labelled.max() <= BALANCED and trainer.global_step >= STEPS:
            self._warn(trainer, split, int(predicted.argmax()), float(predicted.max()))

    def _warn(self, trainer: lightning.Trainer, split: str, number: int, share: float) -> None:
        if self.has_warned:
            return
        self.has_warned = True
        log.warning(
            "after epoch %d the network predicts class %d for %.0f %% of the %s images; "
            'docs/running.md, "When one class takes all", says what to try',
            trainer.current_epoch + 1,
            number,
            100 * share,
            split,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"has_warned": self.has_warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.has_warned = state_dict["has_warned"]


def _is_watched(trainer: lightning.Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def diagnose(network: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Measure routing while a network runs, with all votes formed; afterwards it is as before.

    The coupling of a router is what it last divided its children by, `Router.share`. A router of one's own needs
    nothing but that; one that does not call `share` has no entropy.

    Args:
        network: in evaluation mode.
        run: runs it.

    Returns:
        For each router, under the name of its layer, what is finite of: `vote_std/LAYER`, the standard deviation of all
        its votes; `coupling_entropy/LAYER`, that of the coupling, as a share of the entropy of equal parts (1: uniform,
        0: each child has one parent); `dead_parents/LAYER`, the share of parents that are dead, see `DEAD`. In a
        convolutional layer a parent is a type, at all places. Nothing where the votes or parents are not finite.

    >>> from capsbench.capsules import CapsuleLayer, FullTransform
    >>> from capsbench.routing import DynamicRouting
    >>> layer = CapsuleLayer(FullTransform(num_children=7, num_parents=3, child_dim=8, pose_dim=16), DynamicRouting)
    >>> children = Capsules(torch.randn(2, 7, 8), torch.rand(2, 7))
    >>> sorted(diagnose(nn.ModuleDict({"top": layer}), lambda: layer(children)))
    ['coupling_entropy/top', 'dead_parents/top', 'vote_std/top']
    """
    is_compiled = any(module._compiled_call_impl is not None for module in network.modules())
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with ExitStack() as stack:
        routers = [(name, part) for name, part in network.named_modules() if isinstance(part, Router)]
        watches = {_layer(name): stack.enter_context(_Watch(router)) for name, router in routers}
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        # Compiled networks call no hooks.
        stack.enter_context(torch.compiler.set_stance("force_eager") if is_compiled else nullcontext())
        try:
            run()
        except NonFiniteError:  # training says so itself
            return {}
    found = {f"{name}/{layer}": value for layer, watch in watches.items() for name, value in watch.measured.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _layer(router: str) -> str:
    """The name of a router's layer: "capsule_layers.0" of "capsule_layers.0.layer.router"."""
    return router.removesuffix(".router").removesuffix(".layer")


class _Watch:
    """Adds up what a router gets, divides and returns, over all its calls within a `with` block."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._votes = self._sum = self._sum_of_squares = 0.0
        self._entropy = self._entropy_of_equal_parts = 0.0
        self._divided: tuple[Tensor, Tensor] | None = None
        self._largest: Tensor | None = None  # (parent,): the largest activation
        self._activations = self._sum_of_activations = 0.0

    def __enter__(self) -> "_Watch":
        router = self.router
        self._share, self._has_own = router.share, "share" in vars(router)
        router.share = self._divide
        self._hooks = [
            router.register_forward_pre_hook(self._before, with_kwargs=True),
            router.register_forward_hook(self._after),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        if self._has_own:
            self.router.share = self._share
        else:
            del self.router.share

    @property
    def measured(self) -> dict[str, float]:
        """What `diagnose` returns of a router; nothing if it was not called."""
        found = {}
        if self._votes:
            mean = self._sum / self._votes
            found["vote_std"] = math.sqrt(max(0.0, self._sum_of_squares / self._votes - mean * mean))
        if self._entropy_of_equal_parts:
            found["coupling_entropy"] = self._entropy / self._entropy_of_equal_parts
        if self._largest is not None:
            mean = self._sum_of_activations / self._activations
            found["dead_parents"] = float((self._largest <= DEAD * mean).float().mean())
        return found

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = dict(zip(("votes", "activations"), arguments, strict=False)) | named
        if isinstance(given["votes"], LazyVotes):
            given["votes"] = given["votes"].materialize()
        variance, mean = (float(part) for part in torch.var_mean(given["votes"].float(), correction=0))
        number = given["votes"].numel()
        self._votes += number
        self._sum += number * mean
        self._sum_of_squares += number * (variance + mean * mean)
        return (), given

    def _divide(self, logits: Tensor) -> Tensor:
        self._divided = logits, (coupling := self._share(logits))
        return coupling

    def _after(self, _: nn.Module, __: Any, parents: Capsules) -> None:
        activations = parents.activations.float().abs()
        largest = activations.amax(dim=0)
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        self._activations += activations.numel()
        self._sum_of_activations += float(activations.sum())
        if self._divided is not None:
            logits, coupling = self._divided
            self._entropy += float(torch.special.entr(coupling).sum())
            self._entropy_of_equal_parts += float(torch.special.entr(self._share(torch.zeros_like(logits))).sum())
            self._divided = None
