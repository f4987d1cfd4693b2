"""Tables of results whose numbers are known."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, variance

import pytest
from scipy.special import betainc

from capsbench.launch.protocols import protocol
from capsbench.reports.cells import cells, concise_cells, numbers, rows
from capsbench.reports.comparison import Comparison

AddRun = Callable[..., Path]
FM, DYNAMIC = (0.93, 0.94, 0.935), (0.90, 0.92, 0.925)


def table(root: Path) -> dict[str, dict[str, str]]:
    """The cells of each row, by its router."""
    return {row["Router"]: row for row in cells(Comparison.of(root, protocol)).to_dict("records")}


def welch_p(a: Sequence[float], b: Sequence[float]) -> float:
    """From the formula: t, the degrees of freedom of Welch and Satterthwaite, and Student's distribution."""
    error_a, error_b = variance(a) / len(a), variance(b) / len(b)
    t = (mean(a) - mean(b)) / math.sqrt(error_a + error_b)
    freedom = (error_a + error_b) ** 2 / (error_a**2 / (len(a) - 1) + error_b**2 / (len(b) - 1))
    return float(betainc(freedom / 2, 0.5, freedom / (freedom + t**2)))


def test_ours_beside_the_papers(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, wall_time_s=7380.0, parameters=381_521)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic)
    found = table(tmp_path / "table3")
    assert list(found) == ["FM", "Dynamic (3)", "EM (3)", "Sabour et al.", "Hinton et al."]
    assert found["FM"] == {
        "Router": "FM",
        "Data": "affNIST",
        "Ours %": "93.50 ± 0.50",
        "n": "3",
        "Paper %": "93.85 ± 0.29",
        "Difference": "−0.35",
        "p against FM": "–",
        "Parameters": "381,521",
        "Training": "2:03 h",
    }
    assert found["Dynamic (3)"]["p against FM"] == f"{welch_p(DYNAMIC, FM):.3f} (n = 3, 3)"
    assert found["Dynamic (3)"]["Training"] == "2 min"
    assert found["EM (3)"]["Ours %"] == "– (3 seeds missing)"
    assert found["EM (3)"]["Paper %"] == "78.29 ± 2.04"
    assert (found["EM (3)"]["n"], found["EM (3)"]["Difference"]) == ("–", "–")
    assert found["Sabour et al."]["Ours %"] == "–"
    assert (found["Sabour et al."]["Paper %"], found["Sabour et al."]["Parameters"]) == ("79.00", "13.40M")


def test_missing_seeds_are_told(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table3", "fm", 1, 0.93)
    for seed, accuracy in enumerate((0.92, 0.93), start=1):
        add_paper_run(tmp_path, "table3", "dynamic", seed, accuracy)
    found = table(tmp_path / "table3")
    assert found["FM"]["Ours %"] == "93.00 (2 of 3 seeds missing)"
    assert found["Dynamic (3)"]["Ours %"] == "92.50 ± 0.71 (1 of 3 seeds missing)"
    assert found["Dynamic (3)"]["p against FM"] == "–", "one seed of FM tells nothing of its spread"


def test_what_stands_in_is_named_in_the_cell(add_paper_run: AddRun, tmp_path: Path) -> None:
    generated = {"data_title": "affNIST (generated)", "stands_in_for": "affNIST"}
    for seed in (1, 2, 3):
        add_paper_run(tmp_path, "table3", "fm", seed, 0.90 + 0.01 * seed, **generated)
    comparison = Comparison.of(tmp_path / "table3", protocol)
    first = rows(comparison)[0]
    assert (first.data, first.stand_in, first.missing) == ("affNIST", "affNIST (generated)", 0)
    assert cells(comparison)["Ours %"][0] == "92.00 ± 1.00 [affNIST (generated)]"
    add_paper_run(tmp_path, "table3", "fm", 1, 0.95)
    shown = cells(Comparison.of(tmp_path / "table3", protocol))["Ours %"].tolist()
    assert shown[:2] == ["95.00 (2 of 3 seeds missing)", "92.00 ± 1.00 [affNIST (generated)]"]


def test_a_run_unlike_the_papers_has_a_row_of_its_own(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"arch.vote_gain": 0.25})
        add_paper_run(tmp_path, "table3", "em", seed, dynamic, steps=2000)
        add_paper_run(tmp_path, "table3", "mean", seed, dynamic)
    found = table(tmp_path / "table3")
    gain = found["Dynamic (3) [arch.vote_gain=0.25]"]
    assert gain["Ours %"] == "91.50 ± 1.32"
    assert (gain["Paper %"], gain["Difference"]) == ("–", "–")
    assert gain["p against FM"] == f"{welch_p(DYNAMIC, FM):.3f} (n = 3, 3)"
    assert found["Dynamic (3)"]["Ours %"] == "– (3 seeds missing)"
    assert found["EM (3)"]["Ours %"] == "– (3 seeds missing)"
    cut = found["EM (3) [2,000 of 40,000 steps]"]
    assert cut["Paper %"] == cut["p against FM"] == "–", "FM was trained for longer"
    assert (found["mean"]["Paper %"], found["mean"]["Ours %"]) == ("–", "91.50 ± 1.32")


def test_cut_runs_are_compared_with_fm_cut_alike(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, 0.5 + 0.01 * seed)
        add_paper_run(tmp_path, "table3", "fm", seed, fm, steps=2000)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, steps=2000)
    cut = table(tmp_path / "table3")["Dynamic (3) [2,000 of 40,000 steps]"]
    assert cut["p against FM"] == f"{welch_p(DYNAMIC, FM):.3f} (n = 3, 3)"


def test_what_the_paper_leaves_open_is_told_where_it_differs(add_paper_run: AddRun, tmp_path: Path) -> None:
    for size in (256, 512):
        add_paper_run(tmp_path, "table3", "fm", 1, 0.9, settings={"data.eval_batch_size": size})
    found = table(tmp_path / "table3")
    assert [found[f"FM [data.eval_batch_size={size}]"]["Paper %"] for size in (256, 512)] == ["93.85 ± 0.29"] * 2


def test_runs_apart_from_the_papers_in_different_ways_are_not_tested_against_each_other(
    add_paper_run: AddRun, tmp_path: Path
) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, settings={"loss": "spread", "loss.end": 0.9})
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"loss": "spread", "loss.end": 0.5})
    found = table(tmp_path / "table3")
    assert found["Dynamic (3) [loss=spread, loss.end=0.5]"]["p against FM"] == "–"


def test_who_logged_it_sets_no_run_apart(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, logger in enumerate(("csv", "wandb"), start=1):
        folder = add_paper_run(tmp_path, "table3", "fm", seed, 0.9)
        result = json.loads((folder / "result.json").read_text())
        result["choices"]["logger"] = logger
        (folder / "result.json").write_text(json.dumps(result))
    assert table(tmp_path / "table3")["FM"]["n"] == "2"


def test_data_in_the_papers_order(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table2", "fm", 1, 0.9, data="SVHN")
    comparison = Comparison.of(tmp_path / "table2", protocol)
    ours = [row for row in rows(comparison) if row.router == "FM"]
    assert [(row.data, row.missing) for row in ours] == [("Fashion-MNIST", 3), ("CIFAR-10", 3), ("SVHN", 2)]
    hinton = [row.data for row in rows(comparison) if row.router == "Hinton et al."]
    assert hinton == ["CIFAR-10"]


def test_an_experiment_that_is_not_the_papers(add_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, em) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_run(tmp_path / "demo", "fm", seed, fm)
        add_run(tmp_path / "demo", "em", seed, em)
    found = table(tmp_path / "demo")
    assert found["EM (3)"] == {
        "Router": "EM (3)",
        "Data": "digits / capsnet",
        "Accuracy %": "91.50 ± 1.32",
        "n": "3",
        "p against FM": f"{welch_p(DYNAMIC, FM):.3f} (n = 3, 3)",
        "Parameters": "12,345",
        "Training": "2 min",
        "Training images/s": "1,000",
        "Inference ms/batch": "5.0",
    }


@pytest.mark.parametrize(("fm", "em", "shown"), [((0.9, 0.9), (0.8, 0.8), "–"), ((0.9, 0.9001), (0.1, 0.1001), "< 0")])
def test_p_values_at_the_ends(
    add_run: AddRun, tmp_path: Path, fm: tuple[float, float], em: tuple[float, float], shown: str
) -> None:
    for seed in (1, 2):
        add_run(tmp_path / "demo", "fm", seed, fm[seed - 1])
        add_run(tmp_path / "demo", "em", seed, em[seed - 1])
    assert table(tmp_path / "demo")["EM (3)"]["p against FM"].startswith(shown)


def test_numbers_for_machines(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic)
    found = numbers(Comparison.of(tmp_path / "table3", protocol)).set_index("router")
    assert found.loc["Dynamic (3)", "welch_p"] == pytest.approx(welch_p(DYNAMIC, FM), abs=1e-9)
    assert found.loc["FM", "difference"] == pytest.approx(93.5 - 93.85)
    assert found["n"].tolist() == [3, 3, 0, 0, 0]
    assert found["seeds_missing"].tolist() == [0, 0, 3, 0, 0]


def test_a_page_shows_what_was_run_and_says_once_what_rows_share(add_paper_run: AddRun, tmp_path: Path) -> None:
    generated = {"data_title": "affNIST (generated)", "stands_in_for": "affNIST", "steps": 2000}
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, **generated)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"arch.vote_gain": 0.25}, **generated)
    table, caption = concise_cells(Comparison.of(tmp_path / "table3", protocol))
    assert table["Router"].tolist() == ["FM", "Dynamic (3) [arch.vote_gain=0.25]", "Sabour et al.", "Hinton et al."]
    assert table["Ours %"].tolist() == ["93.50 ± 0.50", "91.50 ± 1.32", "–", "–"]
    assert not {"Data", "Difference"} & set(table.columns), "they say nothing"
    assert "affNIST (generated), in place of affNIST" in caption
    assert "differs from the paper's in: 2,000 of 40,000 steps" in caption


def test_a_page_leaves_out_data_that_nobody_ran_with_its_references(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table2", "fm", 1, 0.9, data="CIFAR-10")
    table, caption = concise_cells(Comparison.of(tmp_path / "table2", protocol))
    assert table["Router"].tolist() == ["FM", "Sabour et al.", "Hinton et al.", "Nair et al.", "HitNet", "DeepCaps"]
    assert table["Ours %"][0] == "90.00 (2 of 3 seeds missing)"
    assert "Data: CIFAR-10." in caption


@pytest.mark.parametrize("left_behind", ["config.yaml", "error.txt"])
def test_a_run_that_was_begun_is_a_row_of_a_page(add_paper_run: AddRun, tmp_path: Path, left_behind: str) -> None:
    add_paper_run(tmp_path, "table3", "fm", 1, 0.9, steps=2000)
    begun = tmp_path / "table3" / "affnist" / "resnet_capsnet_small" / "em" / "seed1-0"
    begun.mkdir(parents=True)
    (begun / left_behind).write_text("{}")
    table, _ = concise_cells(Comparison.of(tmp_path / "table3", protocol))
    shown = dict(zip(table["Router"], table["Ours %"], strict=True))
    assert shown["EM (3)"] == "– (3 seeds missing)"
    assert shown["FM [2,000 of 40,000 steps]"] == "90.00", "a caption would speak of EM, too"
    assert "Dynamic (3)" not in shown
