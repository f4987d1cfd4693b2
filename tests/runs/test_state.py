"""What a run's folder tells."""

from pathlib import Path

import pytest

from capsbench.runs import Result, RunFolder, State


def test_a_run_that_ends_while_one_looks_is_done(folder: Path, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(folder)
    run.config.touch()

    def end_it(self: RunFolder) -> bool:
        result.save(self.path)
        return False

    monkeypatch.setattr(RunFolder, "is_locked", property(end_it))
    assert State.of(run) == State("done", metrics=result.metrics, learned=False)
