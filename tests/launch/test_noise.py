"""Runs show a user no message that tells nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_run_shows_no_warning(
    capsbench: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    srun = tmp_path / "bin" / "srun"  # with it, Lightning tells every run that it could use it
    srun.parent.mkdir()
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=":")
    capsbench("train", "trainer=smoke", "data.subset=64", "decoder=deconv", "optim=adam_cosine")
    shown = [str(warning.message) for warning in recwarn if "beartype" not in warning.filename]  # those of shape checks
    assert shown == []
