"""One run over two processes that is interrupted, and loses one of them."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.runs import Result, RunFolder, State

pytestmark = pytest.mark.engines

Command = Callable[..., Path]
RUN = (
    *("train", "--config-dir", "conf", "router=faulty", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"),
    *("trainer.max_epochs=2", "trainer.enable_progress_bar=false", "checkpoint_minutes=0"),
    *("data.subset=88", "data.batch_size=16"),
)
FAULTY = '''
import os
from pathlib import Path

from capsbench.routing import DynamicRouting


class Faulty(DynamicRouting):
    """Sends a signal once: the file `faultRANK` says at which call, which one, and to whom."""

    calls = 0

    def route(self, votes, activations=None):
        self.calls += self.training
        file = Path("fault" + os.environ["RANK"])
        if self.training and file.exists():
            call, number, whom = file.read_text().split()
            if int(call) == self.calls:
                file.unlink()
                os.kill({"parent": os.getppid, "itself": os.getpid}[whom](), int(number))
        return super().route(votes, activations)
'''


def prepare(folder: Path) -> None:
    (folder / "faulty.py").write_text(FAULTY)
    choice = folder / "conf" / "router" / "faulty.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: faulty.Faulty\n_partial_: true\niterations: 2\n")


def what_counts(outputs: Path) -> tuple[Any, ...]:
    (path,) = outputs.rglob("result.json")
    result = Result.load(path.parent)
    metrics = {name: value for name, value in result.metrics.items() if "per_" not in name}
    weights = torch.load(RunFolder(path.parent).weights, weights_only=True)["state_dict"]
    return metrics, list(result.history), {name: tensor.tolist() for name, tensor in weights.items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    from capsbench.commands import cli

    folder = tmp_path_factory.mktemp("uninterrupted")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        cli.main(list(RUN))
    return what_counts(folder)


def test_what_is_interrupted_in_an_epoch_ends_with_the_same_bits(
    capsbench: Command, uninterrupted: tuple[Any, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a signal to the command, a signal to one of its processes, and kill -9 for one of its processes.

    History, too: each process has the metrics of its own examples.
    """
    prepare(tmp_path)

    def ends(code: int, said: str, *fault: object) -> None:
        Path("fault1").write_text(" ".join(map(str, fault)))
        with pytest.raises(SystemExit) as ended:
            capsbench(*RUN)
        assert (ended.value.code, Path("fault1").exists()) == (code, False)
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith(f"{said} the same command continues it")
        (config,) = Path("outputs").rglob("config.yaml")
        assert State.of(RunFolder(config.parent)).name == "interrupted"

    term, kill = int(signal.SIGTERM), int(signal.SIGKILL)
    ends(128 + term, "was interrupted by SIGTERM;", 3, term, "parent")
    ends(128 + term, "was interrupted by SIGTERM;", 2, term, "itself")
    ends(1, "error: a process of the run was killed (often out of memory);", 4, kill, "itself")
    outputs = capsbench(*RUN)
    assert "resumed" in capfd.readouterr().out
    assert what_counts(outputs) == uninterrupted
