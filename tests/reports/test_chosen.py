"""Runs that were stopped, or whose weights were chosen, by a metric: marked, and in no table of the paper."""

from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.cells import tables
from capsbench.reports.comparison import Comparison

CHOSEN = "early stopping by train/loss after 7 epochs"
STOPS = {"early_stopping": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "train/loss"}}


def test_they_are_in_no_table_of_the_paper(tmp_path: Path, add_paper_run: Callable[..., Path]) -> None:
    plain = add_paper_run(tmp_path, "table2", "fm", 1, 0.90)
    chosen = add_paper_run(
        tmp_path, "table2", "fm", 2, 0.93, chosen=CHOSEN, settings={"callbacks.early_stopping": STOPS["early_stopping"]}
    )
    comparison = Comparison.of(tmp_path / "table2", protocol)
    assert [run.folder for run in comparison.runs] == [plain]
    assert comparison.chosen == (chosen,)
    (plain / "result.json").unlink()
    alone = Comparison.of(tmp_path / "table2", protocol)
    assert alone.target is None
    assert [run.folder for run in alone.runs] == [chosen]
    assert "1 of 1 runs chose by a metric when to stop, or which weights to end with." in tables(alone)[0].caption


@pytest.mark.parametrize("count", [1, 2])
def test_elsewhere_they_are_rows_of_their_own(tmp_path: Path, add_run: Callable[..., Path], count: int) -> None:
    def settings(seed: int, **more: object) -> dict[str, object]:
        return {"seed": seed, "data": {"seed": seed}, "router": {"iterations": 3}, **more}

    root = tmp_path / "mine"
    for seed in range(1, 3):
        add_run(root, "fm", seed, 0.9, settings=settings(seed))
    for seed in range(1, count + 1):
        add_run(root, "fm", seed, 0.92, settings=settings(seed, callbacks=STOPS), chosen=CHOSEN)
    comparison = Comparison.of(root, protocol)
    assert {len(condition.runs) for condition in comparison.conditions} == {2, count}
    shown = tables(comparison)[0]
    assert f"{count} of {2 + count} runs chose by a metric" in shown.caption
    assert "early_stopping" in shown.frame.to_string()


def test_they_are_compared_where_as_much_was_allowed(tmp_path: Path, add_run: Callable[..., Path]) -> None:
    for seed, epochs in ((1, 5), (2, 7), (3, 6)):
        for router, shorter in (("fm", 0), ("dynamic1", 1)):
            settings = {"seed": seed, "data": {"seed": seed}, "callbacks": STOPS, "trainer": {"max_epochs": 9}}
            add_run(
                tmp_path, router, seed, 0.9 - shorter / 10, settings=settings, chosen=CHOSEN, epochs=epochs - shorter
            )
    (shown,) = tables(Comparison.of(tmp_path, protocol))
    assert shown.frame["Verdict"].tolist() == ["–", "worse"]
