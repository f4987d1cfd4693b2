"""Stops a run whose numbers become NaN or infinite, names the first bad layer and keeps what replays it."""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from capsbench.data.batch import as_batch
from capsbench.routing import NonFiniteError
from capsbench.training.checkpoint import save_checkpoint


class NaNGuard(lightning.Callback):
    """Stop training when the loss is NaN or infinite, and name the first layer with such an output.

    On a CPU every loss is checked before its gradients reach the weights. On an accelerator each check would stall the
    device, so the losses are checked there and the outcome is read every `interval` steps.

    What replays it is kept: the batch, the weights, the epoch, the step, the batch's number in its epoch, the seed and
    the fraction of the training done. On a CPU the weights are those before the step; on an accelerator batch and
    weights are those of the step at which the outcome was read.

    Args:
        path: of the file that is kept; None: none.
        interval: steps between two reads on an accelerator.

    Raises:
        NonFiniteError: raised inside `fit`.
    """

    def __init__(self, path: Path | None = None, interval: int = 100) -> None:
        self.path = path
        self.interval = interval
        self._bad: Tensor | None = None
        self._batch: Any = None
        self._batch_idx = 0

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch, self._batch_idx = batch, batch_idx

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        bad = ~torch.isfinite(loss.detach())
        self._bad = bad if self._bad is None else self._bad | bad
        if loss.device.type == "cpu" or trainer.global_step % self.interval == 0:
            self._raise_if_bad(trainer, pl_module)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._raise_if_bad(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._raise_if_bad(trainer, pl_module)

    def _raise_if_bad(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._bad is None or not self._bad:
            return
        cause = pl_module.blame(self._batch)  # type: ignore[operator]
        raise NonFiniteError(f"the loss is not finite at step {trainer.global_step}: {cause}")

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if self.path is None or not isinstance(exception, NonFiniteError) or trainer.state.fn != TrainerFn.FITTING:
            return
        kept = {
            "batch": as_batch(self._batch)._asdict(),
            "state_dict": pl_module.state_dict(),
            "training": trainer.training,
            "progress": pl_module.progress,
            "seed": getattr(trainer.datamodule, "seed", None),  # type: ignore[attr-defined]
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "batch_idx": self._batch_idx,
            "cause": str(exception),
        }
        try:
            save_checkpoint(kept, self.path)
        except (OSError, RuntimeError) as error:  # a full disk must not hide why the run failed
            exception.add_note(f"The batch could not be kept for replay: {error}")
        else:
            exception.add_note(f"{self.path} keeps the batch and the weights; capsbench.launch.build.replay repeats it")


def blame(network: nn.Module, *inputs: Tensor) -> str | None:
    """Run a network again and describe the first layer whose output is NaN or infinite; None if there is none.

    Args:
        network: a module whose layers return tensors or tuples of tensors.
        *inputs: its inputs.
    """
    first: list[str] = []
    names = {module: name for name, module in network.named_modules() if name}
    running: list[nn.Module] = []

    def described(module: nn.Module) -> str:
        return f"layer {names[module]} ({type(module).__name__})"

    def has_bad_weights(module: nn.Module) -> bool:
        return not all(torch.isfinite(p).all() for p in module.parameters())

    def enter(module: nn.Module, _inputs: Any) -> None:
        if module in names:
            running.append(module)

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if module not in names:
            return
        running.pop()
        tensors = [output] if isinstance(output, Tensor) else output
        if not first and not all(torch.isfinite(tensor).all() for tensor in tensors):
            what = "has weights that are" if has_bad_weights(module) else "is the first whose output is"
            first.append(f"{described(module)} {what} not finite")

    # Hooks of all modules: those of a transform would have its votes stored, which may not fit.
    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(look)]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # compiled networks call no hooks
            network(*inputs)
    except NonFiniteError as error:
        if first:
            return first[0]
        for module in reversed(running):
            if has_bad_weights(module):
                return f"{described(module)} has weights that are not finite"
        where = [described(module) for module in running[-1:]]
        return ": ".join([*where, str(error)])
    finally:
        for handle in handles:
            handle.remove()
    return first[0] if first else None
