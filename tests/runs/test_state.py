"""What a run's folder tells."""

from pathlib import Path

import pytest

from capsbench.runs import Result, State, state


def test_a_run_that_ends_while_one_looks_is_done(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").touch()

    def end_it(folder: Path) -> bool:
        result.save(folder)
        return False

    monkeypatch.setattr(state, "_is_locked", end_it)
    assert State.of(tmp_path) == State("done", metrics=result.metrics)
