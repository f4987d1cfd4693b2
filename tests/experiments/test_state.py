"""What a run's folder tells."""

from pathlib import Path

import pytest

from capsbench.experiments import State, state


def test_a_run_that_ends_while_one_looks_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").touch()

    def end_it(folder: Path) -> bool:
        (folder / "result.json").write_text('{"metrics": {"test/accuracy": 0.5}}')
        return False

    monkeypatch.setattr(state, "_is_taken", end_it)
    assert State.of(tmp_path) == State("done", metrics={"test/accuracy": 0.5})
