"""`capsbench.train`: the run of the command, from Python."""

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase

import capsbench as package
from capsbench.data import Digits

FEW: dict[str, Any] = {
    "arch": "capsnet_light",
    "arch.filters": 8,
    "arch.groups": 2,
    "data.subset": 32,
    "data.test_subset": 32,
    "trainer": {"max_epochs": 1, "enable_progress_bar": False},
}
WORDS = ("router=dynamic", "seed=3", "arch=capsnet_light", "arch.filters=8", "arch.groups=2", "data.subset=32")
WORDS += ("data.test_subset=32", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")


def process() -> tuple[Any, ...]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    hydra = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    numbers = torch.random.get_rng_state().tolist(), random.getstate()
    told = list(warnings.filters), logging.getLogger("lightning.pytorch").level
    return dict(os.environ), Path.cwd(), handlers, hydra, numbers, list(sys.path), told


def test_it_is_the_run_of_the_command_and_leaves_the_process_as_it_was(
    capsbench: Callable[..., Path],
) -> None:
    capsbench("train", *WORDS, "output_dir=command")
    before = process()
    result = package.train(router="dynamic", seed=3, **FEW)
    assert process() == before
    folder = result.run.folder("outputs")
    (other,) = Path("command").rglob("result.json")
    assert folder.relative_to("outputs") == other.parent.relative_to("command")
    last = [path / "checkpoints" / "last.ckpt" for path in (folder, other.parent)]
    ours, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in last)
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert (folder / "config.yaml").read_text().replace("outputs", "command") == (
        other.with_name("config.yaml").read_text()
    )
    assert package.train(router="dynamic", seed=3, **FEW) == result  # finished before
    assert package.load(folder).class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"router": "nobody"}, "there is no router=nobody; There are: attention"),
        ({"seed": -1}, "seed must be an integer from 0 to 4294967295, got -1"),
        ({"trainer": {"max_epoch": 3}}, "there is no setting trainer.max_epoch; did you mean max_epochs"),
        ({"launcher": "local"}, "launcher=local is for the runs of a sweep"),
        ({"arch": "capsnet", "data.crop": 12}, "CapsNet needs images of at least 17×17 pixels"),
        ({"config_dir": "nowhere"}, "--config-dir must be a directory with folders of choices, there is no nowhere"),
    ],
)
def test_what_cannot_be_meant_is_a_value_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = process()
    with pytest.raises(ValueError, match=cause.replace(".", r"\.")):
        package.train(**settings)
    assert process() == before


def test_ctrl_c_saves_and_is_a_keyboard_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def train_images(self: Digits, images: torch.Tensor, draw: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return images.float()

    monkeypatch.setattr(Digits, "train_images", train_images)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="interrupted by SIGINT; the same command continues it"):
        package.train(**FEW)
    assert signal.getsignal(signal.SIGINT) == before
