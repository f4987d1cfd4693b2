"""Tables from results whose numbers are known."""

from pathlib import Path

import pytest

from capsbench.experiments import Result
from capsbench.reports.comparison import load_runs, panels
from capsbench.reports.html import write_report


def add_run(
    root: Path,
    router: str,
    seed: int,
    accuracy: float,
    *,
    iterations: int = 3,
    loss: str = "margin",
    smoke: bool = False,
) -> None:
    folder = root / router / f"{seed}-{iterations}-{loss}-{smoke}"
    folder.mkdir(parents=True)
    Result(
        experiment="demo",
        data="digits",
        arch="capsnet",
        router=router,
        seed=seed,
        identity="x",
        settings={"seed": seed, "data": {"seed": seed}, "router": {"iterations": iterations}, "loss": {f"{loss}_m": 1}},
        choices={"loss": loss, "router": router},
        metrics={"test/accuracy": accuracy, "train/images_per_second": 1000.0, "inference/ms_per_batch": 5.0},
        history=[{"epoch": 1, "train/accuracy": 0.9, "test/accuracy": accuracy}],
        parameters=12345,
        epochs=1,
        steps=1,
        wall_time_s=1.0,
        versions={"torch": "2"},
        device="cpu",
        git_commit=None,
        smoke=smoke,
        data_title="digits",
        stands_in_for=None,
        train_examples=1437,
        test_examples=360,
        full=not smoke,
    ).save(folder)


def test_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.90), (2, 0.92), (3, 0.97)):
        add_run(tmp_path, "fm", seed, accuracy)
    add_run(tmp_path, "em", 1, 0.95)
    (panel,) = panels(load_runs(tmp_path))
    assert panel.title == "digits / capsnet"
    assert panel.table["Router"].tolist() == ["em", "fm"]
    assert panel.table["Test accuracy %"].tolist() == ["95.00", "93.00 ± 3.61"]
    assert panel.table["Seeds"].tolist() == ["1", "3"]
    assert panel.table["Parameters"].tolist() == ["12,345", "12,345"]


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path: Path) -> None:
    add_run(tmp_path, "dynamic", 1, 0.9, iterations=1)
    add_run(tmp_path, "dynamic", 1, 0.8, iterations=3)
    add_run(tmp_path, "fm", 1, 0.7, loss="margin")
    add_run(tmp_path, "fm", 1, 0.6, loss="spread")
    (panel,) = panels(load_runs(tmp_path))
    assert panel.table["Router"].tolist() == [
        "dynamic (loss=margin, router.iterations=1)",
        "dynamic (loss=margin, router.iterations=3)",
        "fm (loss=margin)",
        "fm (loss=spread)",
    ]


def test_smoke_runs_never_count(tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, smoke=True)
    with pytest.raises(ValueError, match=r"no finished runs in .* \(1 smoke runs do not count\)"):
        load_runs(tmp_path)
    add_run(tmp_path, "fm", 2, 0.5)
    (panel,) = panels(load_runs(tmp_path))
    assert panel.table["Test accuracy %"].tolist() == ["50.00"]


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9)
    add_run(tmp_path, "em", 1, 0.8)
    page = tmp_path / "report.html"
    write_report(page, "<demo>", load_runs(tmp_path))
    html = page.read_text()
    assert "<td>90.00</td>" in html
    assert html.count("<svg") == 1
    assert "&lt;demo&gt;" in html
    for outside in ("<img", 'href="http', "url(http", "@import", "<script"):
        assert outside not in html
