"""What a run's folder tells."""

from pathlib import Path

import pytest

from capsbench.runs import Result, RunFolder, State


def test_a_run_that_ends_while_one_looks_is_done(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.config.touch()

    def end_it(self: RunFolder) -> bool:
        result.save(self.path)
        return False

    monkeypatch.setattr(RunFolder, "is_locked", property(end_it))
    assert State.of(folder) == State("done", metrics=result.metrics)
