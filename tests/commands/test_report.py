"""`capsbench report` as a command."""

from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., None]


SHORT = ("train", "trainer.max_epochs=1", "data.subset=64", "trainer.enable_progress_bar=false")


def test_a_report_on_all_leaves_out_what_has_only_smoke_runs(
    capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("train", "trainer=smoke", "experiment=demo")
    capsbench(*SHORT)
    capsbench("report")
    assert "left out: outputs/demo has only smoke runs" in capsys.readouterr().out
    page = Path("outputs", "report.html").read_text()
    assert "adhoc" in page
    assert "Smoke" not in page


def test_smoke_runs_alone_end_with_a_page_that_is_marked(
    capsbench: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    capsbench("train", "trainer=smoke", "output_dir=outputs/smoke")
    capsbench("report", "output_dir=outputs/smoke")
    assert "Smoke test of adhoc" in capsys.readouterr().out
    for page in (Path("outputs/smoke/report.html"), Path("outputs/smoke/adhoc/report.html")):
        assert "Smoke runs: they were cut short" in page.read_text()


def test_named_sweeps_are_compared(capsbench: Command, capsys: pytest.CaptureFixture[str]) -> None:
    capsbench(*SHORT, "router=fm", "name=monday")
    capsbench(*SHORT, "router=em", "experiment=demo", "name=tuesday")
    capsbench("report", "names=[monday,tuesday]", "baseline=em")
    printed = capsys.readouterr().out
    assert "monday + tuesday" in printed
    assert "FM" in Path("outputs/names/monday+tuesday/report/table.md").read_text()
    with pytest.raises(SystemExit, match="no run in outputs has the name friday; there are: monday, tuesday"):
        capsbench("report", "names=friday")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("experiment=table2",),
            "no system of table2 has finished runs in outputs; make some: make table2 SYS",
        ),
        (("experiment=table3",), "is for a table with recipes of other systems: table2; got table3"),
        (("experiment=table2", "baseline=em"), "leave names= and baseline= out"),
    ],
)
def test_a_table_as_published_says_what_it_lacks(capsbench: Command, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        capsbench("report", "as_published=true", *words)
