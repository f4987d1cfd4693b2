"""`capsbench report` as a command."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., None]


SHORT = ("train", "trainer.max_epochs=1", "data.subset=64", "trainer.enable_progress_bar=false")


def test_a_report_on_all_leaves_out_what_has_only_smoke_runs(
    capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("train", "trainer=smoke", "output_dir=outputs/smoke")
    capsbench("report")
    assert "left out: outputs/smoke has only smoke runs" in capsys.readouterr().out
    assert not Path("outputs", "report.html").exists()
    capsbench(*SHORT)
    capsbench("report")
    assert "left out: outputs/smoke has only smoke runs" in capsys.readouterr().out
    assert "adhoc" in Path("outputs", "report.html").read_text()


def test_a_report_on_smoke_runs_that_are_named(capsbench: Command) -> None:
    capsbench("train", "trainer=smoke")
    with pytest.raises(SystemExit, match=r"no finished runs in outputs/adhoc \(1 smoke runs do not count\)"):
        capsbench("report", "experiment=adhoc")
