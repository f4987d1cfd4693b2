"""`capsbench train name=…`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.runs import finished_runs, named_folders

Run = Callable[..., Path]
SMOKE = ("train", "trainer=smoke", "output_dir=outputs")


def test_a_named_command_lists_its_runs_and_changes_none(capsbench: Run) -> None:
    capsbench(*SMOKE, "seed=1")
    outputs = Path("outputs")
    before = list(finished_runs(outputs))
    capsbench(*SMOKE, "-m", "seed=1,2", "name=monday")
    capsbench(*SMOKE, "seed=1", "router=fm", "name=monday")
    capsbench(*SMOKE, "seed=1", "name=2026-11-30")
    assert named_folders(outputs, ["monday"]) == list(finished_runs(outputs))
    assert named_folders(outputs, ["2026-11-30"]) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["name=../x"], "name must be 1 to 100 letters, digits, - and _, such as name=monday, got '../x'"),
        (["-m", "name=a,b"], "name must be one name for all runs of a sweep; it cannot be swept over"),
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_trained(capsbench: Run, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        capsbench(*SMOKE, *words)
    assert not Path("outputs").exists()
