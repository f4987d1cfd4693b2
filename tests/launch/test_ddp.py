"""One run over two processes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from capsbench.runs import Result

Command = Callable[..., None]


DDP = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
RUN = (
    *("train", "arch=capsnet_light", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"),
    *("data.subset=69", "data.batch_size=46", "data.eval_batch_size=65"),
)


@pytest.mark.engines
def test_two_processes_train_as_one_does(capsbench: Command) -> None:
    """To tolerance: gradients are averaged over the parts of a batch, so sums are taken in another order.

    The last batches have an odd number of examples, so that one process gets more of them than the other.

    `capsnet_light` has no batch norm, which on CPUs each process would do on its own half.
    """
    capsbench(*RUN, "output_dir=one")
    capsbench(*RUN, *DDP, "output_dir=two")
    results, weights = [], []
    for place in ("one", "two"):
        (path,) = Path(place).rglob("result.json")
        results.append(Result.load(path.parent))
        weights.append(torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    one, two = results
    assert one.identity != two.identity, "their numbers differ"
    assert two.settings["devices"] == {"kind": "cpu", "number": 2, "sync_batchnorm": False}
    assert (one.steps, one.epochs) == (two.steps, two.epochs) == (2, 1)
    assert two.device.endswith("× 2")
    for name in ("train/loss", "test/loss"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3)
    assert two.metrics["test/accuracy"] == pytest.approx(one.metrics["test/accuracy"], abs=0.01)
    examples = [np.sum(result.confusion["test"], axis=1).tolist() for result in results]
    assert examples[1] == examples[0]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], rtol=1e-3, atol=1e-4), name


@pytest.mark.engines
def test_a_failure_in_a_process_is_told(capsbench: Command) -> None:
    with pytest.raises(SystemExit, match=r"error: layer .* not finite") as error:
        capsbench("train", "trainer=ddp", *DDP[1:], "optim.optimizer.lr=1e30", "data.subset=64", "data.batch_size=16")
    assert error.value.code == 1
    (failure,) = Path("outputs").rglob("error.txt")
    assert "Traceback" in failure.read_text()
    assert failure.with_name("checkpoints").joinpath("nonfinite.ckpt").is_file()
