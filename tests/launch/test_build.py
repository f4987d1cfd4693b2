"""Finished runs are restored as they were."""

from collections.abc import Callable
from pathlib import Path

import torch

from capsbench.launch.build import restore
from capsbench.runs import RunFolder


def test_weights_of_a_checkpoint_that_holds_metrics_too(capsbench: Callable[..., Path]) -> None:
    outputs = capsbench("train", "trainer=smoke", "data.subset=64")
    (path,) = outputs.rglob("last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    weights = dict(checkpoint["state_dict"])
    checkpoint["state_dict"]["metrics.train_loss.mean_value"] = torch.tensor(1.0)  # as older versions saved it
    torch.save(checkpoint, path)
    restored = restore(RunFolder(path.parents[1])).module.state_dict()
    assert restored.keys() == weights.keys()
    assert all(restored[name].equal(tensor) for name, tensor in weights.items())
