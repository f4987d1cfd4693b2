"""No logger stops a run, wherever it fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

Run = Callable[..., Path]
RUN = ("train", "trainer=smoke", "data.subset=64", "data.test_subset=32")


class Broken(CSVLogger):
    """A logger that fails at one moment."""

    moment: str

    def _fail(self, moment: str) -> None:
        if moment == self.moment:
            raise RuntimeError(f"no {moment}")

    def __init__(self, **options: Any) -> None:
        super().__init__(options["save_dir"], name="broken", version="")
        self._fail("creation")

    def log_metrics(self, *arguments: Any) -> None:
        self._fail("logging")
        super().log_metrics(*arguments)

    def finalize(self, status: str) -> None:
        self._fail("end")
        super().finalize(status)


@pytest.mark.parametrize("moment", ["creation", "logging", "end"])
def test_a_logger_that_fails_is_one_line_and_the_run_goes_on(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    monkeypatch.setattr(Broken, "moment", moment, raising=False)
    monkeypatch.setattr("capsbench.training.Broken", Broken, raising=False)
    outputs = capsbench(*RUN, "+logger.broken._target_=capsbench.training.Broken")
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert f"Broken failed, the run goes on without it: no {moment}" in said
    assert len(list(outputs.rglob("result.json"))) == 1
    assert len(list(outputs.rglob("metrics.csv"))) >= 1
