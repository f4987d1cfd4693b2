"""A run whose folder is deleted while it trains leaves no result without its configuration."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from capsbench.runs import Result
from capsbench.training import History, ResumeCheckpoint

Command = Callable[..., Path]
RUN = ("train", "data.subset=64", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "arch=capsnet_light")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("owner", "moment"),
    [(History, "on_fit_start"), (History, "on_train_epoch_end"), (ResumeCheckpoint, "on_test_batch_end")],
    ids=["at the beginning", "in training", "in the test"],
)
def test_it_fails_in_one_line_and_the_same_command_begins_anew(
    capsbench: Command, monkeypatch: pytest.MonkeyPatch, owner: type, moment: str
) -> None:
    usual = getattr(owner, moment)

    def delete(self: Any, *arguments: Any) -> None:
        shutil.rmtree("outputs", ignore_errors=True)
        usual(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, delete)
        with pytest.raises(SystemExit) as error:
            capsbench(*RUN)
    assert error.value.code == 1
    message = str(error.value)
    assert message.startswith("error: outputs/adhoc/digits/capsnet_light/fm/seed1-")
    assert message.endswith(" was deleted while its run trained; give the command again to begin anew")
    assert not list(Path().rglob("result.json"))
    assert not list(Path().rglob("error.txt"))
    outputs = capsbench(*RUN)
    (result,) = outputs.rglob("result.json")
    assert Result.load(result.parent).epochs == 2
    assert {"config.yaml", "identity.json"} <= {path.name for path in result.parent.iterdir()}
