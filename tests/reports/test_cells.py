"""Tables of results whose numbers are known."""

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scipy import stats

from capsbench.launch.protocols import protocol
from capsbench.reports.cells import tables
from capsbench.reports.comparison import Comparison
from capsbench.reports.records import numbers

AddRun = Callable[..., Path]
Crash = Callable[..., None]
FM, DYNAMIC = (0.93, 0.94, 0.935), (0.90, 0.92, 0.925)
OURS = "Ours, paper's protocol %"
LESS = "Difference from FM"


def table(root: Path, baseline: str | None = None, number: int = 0) -> dict[str, dict[str, str]]:
    """The cells of each row, by its router."""
    frame = tables(Comparison.of(root, protocol, baseline))[number].frame
    return {row["Router"]: row for row in frame.to_dict("records")}


def interval(values: Sequence[float], sign: str = "") -> str:
    """A mean with its t-interval, in percent."""
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = (100 * value for value in (sum(values) / len(values), found.low, found.high))
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]".replace("-", "−")


def test_ours_beside_the_papers(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, parameters=381_521)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic)
    found = table(tmp_path / "table3")
    assert list(found) == ["FM", "Dynamic (3)", "EM (3)", "Sabour et al.", "Hinton et al."]
    assert found["FM"] == {
        "Router": "FM",
        "Paper %": "93.85 ± 0.29",
        OURS: interval(FM),
        "n": "3",
        "Learned": "3 of 3",
        LESS: "–",
        "p (Holm)": "–",
        "P(better)": "–",
        "Verdict": "–",
        "Parameters": "381,521",
    }
    less = [dynamic - fm for dynamic, fm in zip(DYNAMIC, FM, strict=True)]
    assert found["Dynamic (3)"][LESS] == interval(less, "+")
    assert found["Dynamic (3)"]["p (Holm)"] == f"{stats.ttest_rel(DYNAMIC, FM).pvalue:.3f}"
    assert found["Dynamic (3)"]["P(better)"] == "0.00"
    assert found["Dynamic (3)"]["Verdict"] == "cannot be told apart"
    assert found["EM (3)"][OURS] == "– (3 seeds missing)"
    assert found["EM (3)"]["Paper %"] == "78.29 ± 2.04"
    assert (found["EM (3)"]["n"], found["EM (3)"]["Verdict"]) == ("–", "–")
    assert found["Sabour et al."][OURS] == "–"
    assert (found["Sabour et al."]["Paper %"], found["Sabour et al."]["Parameters"]) == ("79.00", "13.40M")


def test_missing_seeds_are_told(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table3", "fm", 1, 0.93)
    for seed, accuracy in enumerate((0.92, 0.93), start=1):
        add_paper_run(tmp_path, "table3", "dynamic", seed, accuracy)
    found = table(tmp_path / "table3")
    assert found["FM"][OURS] == "93.00 (2 of 3 seeds missing)"
    assert found["Dynamic (3)"][OURS] == "92.50 [86.15, 98.85] (1 of 3 seeds missing)"
    assert (found["Dynamic (3)"][LESS], found["Dynamic (3)"]["Verdict"]) == ("−1.00 (1 of 2 seeds)", "too few seeds")


def test_both_protocols_stand_beside_the_paper_whatever_folder_a_run_is_in(
    add_paper_run: AddRun, tmp_path: Path
) -> None:
    for seed, accuracy in enumerate(FM, start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, accuracy)
        add_paper_run(tmp_path, "table3_authors", "fm_squash", seed, accuracy - 0.5, named="table3")
        add_paper_run(tmp_path, "table3_authors", "dynamic", seed, accuracy - 0.6)
    shown = table(tmp_path / "table3")
    assert list(shown["FM"])[:4] == ["Router", "Paper %", OURS, "Ours, authors' protocol %"]
    fm = ("93.85 ± 0.29", interval(FM), interval([accuracy - 0.5 for accuracy in FM]))
    assert tuple(shown["FM"].values())[1:4] == fm
    assert shown["Dynamic (3)"][OURS] == "– (3 seeds missing)"
    assert tables(Comparison.of(tmp_path / "table3_authors", protocol))[0].frame.equals(
        tables(Comparison.of(tmp_path / "table3", protocol))[0].frame
    )
    details = tables(Comparison.of(tmp_path / "table3", protocol))[1].frame
    assert details[["Router", "Protocol", "Verdict"]].to_numpy().tolist() == [
        ["FM", "paper's", "–"],
        ["FM", "authors'", "–"],
        ["Dynamic (3)", "authors'", "worse"],
    ]


def test_what_a_row_need_not_say_is_of_its_own_protocol(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "fig4", "fm", 1, 0.9, settings={"optim.optimizer.lr": 0.002})
    add_paper_run(tmp_path, "fig4_authors", "fm_raw", 1, 0.9)
    accuracy, *_ = tables(Comparison.of(tmp_path / "fig4", protocol))
    assert "In brackets: what differs from the paper's protocol." in accuracy.caption


def test_each_of_two_tables_explains_its_own_columns(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        add_paper_run(tmp_path, "table3", "fm", seed, 0.93)
        for experiment in ("table3", "table3_authors"):
            add_paper_run(tmp_path, experiment, "dynamic", seed, 0.9 + seed / 100)
    accuracy, details = tables(Comparison.of(tmp_path / "table3", protocol))
    for word in ("Holm", "P(better)"):
        assert word not in accuracy.caption
        assert word in details.caption


def test_what_stands_in_is_named(add_paper_run: AddRun, tmp_path: Path) -> None:
    generated = {"data_title": "affNIST (generated)", "stands_in_for": "affNIST"}
    for seed in (1, 2, 3):
        source = {"data.test_source": "generated"}
        add_paper_run(tmp_path, "table3", "fm", seed, 0.90 + 0.01 * seed, settings=source, **generated)
    frame = tables(Comparison.of(tmp_path / "table3", protocol))[0].frame
    assert frame.loc[0, ["Router", "Data", "n"]].tolist() == ["FM", "affNIST (generated) for affNIST", "3"]
    add_paper_run(tmp_path, "table3", "fm", 1, 0.95)
    frame = tables(Comparison.of(tmp_path / "table3", protocol))[0].frame
    assert frame["Data"][:2].tolist() == ["affNIST", "affNIST (generated) for affNIST"]


def test_a_run_unlike_the_papers_has_a_row_of_its_own(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"arch.vote_gain": 0.125})
        add_paper_run(tmp_path, "table3", "em", seed, dynamic, steps=2000)
        add_paper_run(tmp_path, "table3", "mean", seed, dynamic)
    found = table(tmp_path / "table3")
    gain = found["Dynamic (3) [vote_gain=0.125]"]
    assert gain[OURS] == interval(DYNAMIC)
    assert gain["Paper %"] == "–"
    assert gain["Verdict"] != "–"
    assert found["Dynamic (3)"][OURS] == "– (3 seeds missing)"
    assert found["EM (3)"][OURS] == "– (3 seeds missing)"
    cut = found["EM (3) [2,000 of 40,000 steps]"]
    assert cut["Paper %"] == cut["Verdict"] == "–", "FM was trained for longer"
    assert (found["mean"]["Paper %"], found["mean"][OURS]) == ("–", interval(DYNAMIC))


def test_cut_runs_are_compared_with_fm_cut_alike(add_paper_run: AddRun, tmp_path: Path) -> None:
    cut = {"trainer.max_steps": 2000}
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, 0.5 + 0.01 * seed)
        add_paper_run(tmp_path, "table3", "fm", seed, fm, settings=cut)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings=cut)
    shown = table(tmp_path / "table3")["Dynamic (3) [2,000 of 40,000 steps]"]
    assert shown[LESS] == interval([dynamic - fm for dynamic, fm in zip(DYNAMIC, FM, strict=True)], "+")


def test_what_the_paper_leaves_open_is_told_where_it_differs(add_paper_run: AddRun, tmp_path: Path) -> None:
    for size in (256, 512):
        add_paper_run(tmp_path, "table3", "fm", 1, 0.9, settings={"data.eval_batch_size": size})
    found = table(tmp_path / "table3")
    assert [found[f"FM [eval_batch_size={size}]"]["Paper %"] for size in (256, 512)] == ["93.85 ± 0.29"] * 2


def test_runs_apart_from_the_papers_in_different_ways_are_not_tested_against_each_other(
    add_paper_run: AddRun, tmp_path: Path
) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, settings={"loss": "spread", "loss.end": 0.7})
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"loss": "spread", "loss.end": 0.5})
    assert "Verdict" not in table(tmp_path / "table3")["FM [loss=spread, loss.end=0.7]"]


def test_who_logged_it_sets_no_run_apart(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, logger in enumerate(("csv", "wandb"), start=1):
        folder = add_paper_run(tmp_path, "table3", "fm", seed, 0.9)
        result = json.loads((folder / "result.json").read_text())
        result["choices"]["logger"] = logger
        (folder / "result.json").write_text(json.dumps(result))
    assert table(tmp_path / "table3")["FM"]["n"] == "2"


def test_data_in_the_papers_order(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table2", "fm", 1, 0.9, data="SVHN")
    found = numbers(Comparison.of(tmp_path / "table2", protocol))
    ours = found[found["router"] == "FM"]
    assert ours[["data", "seeds_missing"]].to_numpy().tolist() == [["Fashion-MNIST", 3], ["CIFAR-10", 3], ["SVHN", 2]]
    assert found[found["router"] == "Hinton et al."]["data"].tolist() == ["CIFAR-10"]


def test_an_experiment_that_is_not_the_papers(add_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, em) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_run(tmp_path / "demo", "fm", seed, fm)
        add_run(tmp_path / "demo", "em", seed, em)
    assert table(tmp_path / "demo")["EM (3)"] == {
        "Router": "EM (3)",
        "Test accuracy %": interval(DYNAMIC),
        "n": "3",
        "Learned": "3 of 3",
        LESS: interval([em - fm for em, fm in zip(DYNAMIC, FM, strict=True)], "+"),
        "p (Holm)": f"{stats.ttest_rel(DYNAMIC, FM).pvalue:.3f}",
        "P(better)": "0.00",
        "Verdict": "cannot be told apart",
        "Parameters": "12,345",
    }


def add_factorial(add_run: AddRun, root: Path, seeds: int = 3) -> None:
    """EM and FM at each gain and loss; EM is one point behind, more or less."""
    for router, gain, loss, seed in itertools.product(("em", "fm"), (1.0, 0.25), ("margin", "spread"), range(seeds)):
        accuracy = 0.9 + seed / 1000 - (gain < 1) / 10 - (router == "em") * (0.01 + seed / 10000)
        settings = {"seed": seed, "arch": {"vote_gain": gain}, "loss": {"_target_": loss}}
        add_run(root, router, seed, accuracy, loss=loss, settings=settings)


def test_settings_of_a_sweep_have_columns(add_run: AddRun, tmp_path: Path) -> None:
    add_factorial(add_run, tmp_path / "demo")
    settings = {"arch": {"vote_gain": 1.0}, "loss": {"_target_": "margin"}}
    for slope in (2, 3):
        add_run(tmp_path / "demo", "fm", 1, 0.6 - slope / 10, settings=settings | {"router": {"slope": slope}})
    comparison = Comparison.of(tmp_path / "demo", protocol)
    (table,) = tables(comparison)
    assert list(table.frame)[:4] == ["Router", "vote_gain", "loss", "slope"]
    cells = table.frame.iloc[:, :4].to_numpy().tolist()
    assert cells[0] == ["FM", "1.0", "margin", "–"]
    assert cells[-1] == ["FM", "1.0", "margin", "3"]
    assert ["EM (3)", "0.25", "spread", "–"] in cells
    assert "[" not in "".join(table.frame["Router"])
    assert "bracket" not in table.caption
    assert numbers(comparison).loc[0, ["router", "vote_gain", "loss"]].tolist() == ["FM", "1.0", "margin"]


def test_in_a_sweep_the_baseline_has_the_same_settings(add_run: AddRun, tmp_path: Path) -> None:
    add_factorial(add_run, tmp_path / "demo")
    for path in list((tmp_path / "demo").rglob("result.json")):
        result = json.loads(path.read_text())
        settings = result["settings"]
        if (result["router"], settings["loss"]["_target_"], settings["arch"]["vote_gain"]) == ("fm", "spread", 0.25):
            path.unlink()
    (table,) = tables(Comparison.of(tmp_path / "demo", protocol))
    em = table.frame[table.frame["Router"] == "EM (3)"].set_index(["vote_gain", "loss"])
    assert em.loc[("0.25", "margin"), LESS] == em.loc[("1.0", "margin"), LESS]
    assert em.loc[("0.25", "margin"), LESS].startswith("−1.01 [")
    assert em.loc[("0.25", "spread"), [LESS, "Verdict"]].tolist() == ["–", "–"], "another row is no baseline"
    assert "Difference from the row of FM with the same settings" in table.caption
    assert "adjusted by Holm for the 3 tests of this table" in table.caption


def test_a_single_seed_has_no_interval_and_no_test(add_run: AddRun, tmp_path: Path) -> None:
    add_factorial(add_run, tmp_path / "demo", seeds=1)
    (table,) = tables(Comparison.of(tmp_path / "demo", protocol))
    em = table.frame[table.frame["Router"] == "EM (3)"].iloc[0]
    assert em[["Test accuracy %", LESS, "Verdict"]].tolist() == ["89.00", "−1.00", "too few seeds"]
    assert "nan" not in table.frame.to_string()
    assert "One seed a row: there are no intervals." in table.caption


@pytest.mark.parametrize("baseline", ["em", "dynamic"])
def test_any_router_can_be_the_baseline(add_run: AddRun, tmp_path: Path, baseline: str) -> None:
    for seed in (1, 2, 3):
        for number, router in enumerate(("fm", "em", "dynamic")):
            add_run(tmp_path / "demo", router, seed, 0.9 - 0.1 * number + 0.001 * seed * number)
    found = table(tmp_path / "demo", baseline)
    title = {"em": "EM (3)", "dynamic": "Dynamic (3)"}[baseline]
    verdicts = {row: cells["Verdict"] for row, cells in found.items()}
    em_or_dynamic = "better" if baseline == "dynamic" else "worse"
    other = {"em": "Dynamic (3)", "dynamic": "EM (3)"}[baseline]
    assert verdicts == {"FM": "better", title: "–", other: em_or_dynamic}
    assert f"Difference from {title}" in found["FM"]
    with pytest.raises(ValueError, match=r"baseline must be a router that was run \(dynamic, em, fm\), got em2"):
        Comparison.of(tmp_path / "demo", protocol, "em2")


def test_each_run_crashed_did_not_learn_or_learned(add_run: AddRun, crash: Crash, tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.9, 0.92, 0.129, 0.94), start=1):
        add_run(tmp_path / "demo", "fm", seed, accuracy)
        folder = add_run(tmp_path / "demo", "em", seed, 0.8)
        lost = add_run(tmp_path / "demo", "dynamic", seed, 0.8)
        crash(lost)
        if seed < 3:
            crash(folder)
    found = table(tmp_path / "demo")
    fm, em, dynamic = (found[router] for router in ("FM", "EM (3)", "Dynamic (3)"))
    assert [fm[name] for name in ("Crashed", "Did not learn", "Learned")] == ["0 of 4", "1 of 4", "3 of 4"]
    assert fm["Test accuracy %"].startswith("72.22 [")
    assert fm["Learned %"] == interval((0.9, 0.92, 0.94))
    assert [em[name] for name in ("Crashed", "Did not learn", "Learned")] == ["2 of 4", "0 of 4", "2 of 4"]
    assert (em["n"], em["Verdict"]) == ("2", "too few seeds")
    assert [dynamic[name] for name in ("Crashed", "Test accuracy %", "Verdict")] == ["4 of 4", "–", "–"]


@pytest.mark.parametrize(
    ("p", "shown", "verdict"),
    [(0.04997, "0.04997", "better"), (0.0497, "0.0497", "better"), (0.0503, "0.0503", "cannot be told apart")],
)
def test_a_p_that_rounds_to_the_border_is_shown_on_its_side(
    add_run: AddRun, tmp_path: Path, p: float, shown: str, verdict: str
) -> None:
    mean = stats.t.isf(p / 2, 2) * 0.01 / 3**0.5
    for seed in (1, 2, 3):
        add_run(tmp_path / "demo", "fm", seed, 0.9)
        add_run(tmp_path / "demo", "em", seed, 0.9 + mean + (seed - 2) / 100)
    found = table(tmp_path / "demo")["EM (3)"]
    assert (found["p (Holm)"], found["Verdict"]) == (shown, verdict)


def test_a_difference_says_on_how_many_of_the_seeds_it_rests(add_run: AddRun, tmp_path: Path) -> None:
    seeds = {"fm": (1, 2, 3), "em": (3, 4, 5), "dynamic": (1, 2, 3, 4), "mean": (1, 2)}
    for router, numbers_ in seeds.items():
        for seed in numbers_:
            add_run(tmp_path / "demo", router, seed, 0.9 + seed / 100 * (router != "fm"))
    found = {router: row["Difference from FM"] for router, row in table(tmp_path / "demo").items()}
    (shown,) = tables(Comparison.of(tmp_path / "demo", protocol))
    assert "adjusted by Holm for the 1 test of this table" in shown.caption
    assert "a test needs 3 seeds that both finished" in shown.caption, "EM has 3 seeds, and no test"
    assert found["EM (3)"] == "+3.00 (1 of 3 seeds)"
    assert re.fullmatch(r"\+2\.00 \[.*\] \(3 of 4 seeds\)", found["Dynamic (3)"])
    assert "seeds" not in found["mean"], "FM has other seeds, but this row has none but these"


@pytest.mark.parametrize(
    ("data", "classes", "accuracy", "learned"),
    [
        ("Digits", 10, 0.131, "1 of 1"),
        ("Digits", 10, 0.129, "0 of 1"),
        ("SmallNORB", 5, 0.22, "0 of 1"),
        ("SmallNORB", 0, 0.22, "0 of 1"),
        ("MultiMNIST", 10, 0.06, "1 of 1"),
        ("MultiMNIST", 10, 0.05, "0 of 1"),
    ],
)
def test_chance_follows_from_the_number_of_classes(
    add_run: AddRun, tmp_path: Path, data: str, classes: int, accuracy: float, learned: str
) -> None:
    settings = {"seed": 1, "data": {"_target_": f"capsbench.data.{data}"}}
    add_run(tmp_path / "demo", "fm", 1, accuracy, settings=settings, class_names=["x"] * classes)
    assert table(tmp_path / "demo")["FM"]["Learned"] == learned


@pytest.mark.parametrize(("accuracy", "learned"), [(0.2, "0 of 1"), (0.24, "1 of 1")])
def test_a_network_that_only_names_the_most_frequent_class_did_not_learn(
    add_run: AddRun, tmp_path: Path, accuracy: float, learned: str
) -> None:
    """A fifth of SVHN's digits are ones."""
    counts = [[0] * 10 for _ in range(10)]
    for digit, images in enumerate((9, 20, 16, 11, 10, 9, 8, 7, 5, 5)):
        counts[digit][1] = images
    add_run(tmp_path / "demo", "fm", 1, accuracy, confusion={"test": counts}, class_names=[*"0123456789"])
    assert table(tmp_path / "demo")["FM"]["Learned"] == learned


def test_validation_accuracy_is_named_and_apart_from_test_accuracy(add_run: AddRun, tmp_path: Path) -> None:
    settings = {"data": {"val_fraction": 0.1}}
    for seed in (1, 2, 3):
        add_run(tmp_path / "demo", "fm", seed, 0.9)
        metrics = {"val/accuracy": 0.5 + seed / 100}
        folder = add_run(tmp_path / "demo", "em", seed, 0.2, settings=settings, metrics=metrics)
        (folder / "evaluation-test.json").write_text(json.dumps({"metrics": {"test/accuracy": 0.4}}))
    test, validation = tables(Comparison.of(tmp_path / "demo", protocol))
    assert test.frame["Router"].tolist() == ["FM"]
    assert validation.frame["Validation accuracy %"].tolist() == [interval((0.51, 0.52, 0.53))]
    assert "Test accuracy %" not in validation.frame
    _, shown = tables(Comparison.of(tmp_path / "demo", protocol), show_test=True)
    assert shown.frame["Test accuracy %"].tolist() == ["40.00 [40.00, 40.00]"]
    (folder / "evaluation-test.json").unlink()
    _, shown = tables(Comparison.of(tmp_path / "demo", protocol), show_test=True)
    assert shown.frame["Test accuracy %"].tolist() == ["40.00 [40.00, 40.00] (2 of 3 seeds)"]


def test_older_runs_are_in_no_table_with_new_ones(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        add_run(tmp_path / "demo", "fm", seed, 0.9)
        add_run(tmp_path / "demo", "fm", seed, 0.8, identity_version=1)
        add_run(tmp_path / "demo", "em", seed, 0.7, identity_version=1)
    comparison = Comparison.of(tmp_path / "demo", protocol)
    assert [panel.title for panel in comparison.panels] == [
        "digits / capsnet",
        "digits / capsnet, older runs (version 1)",
    ]
    new, old = tables(comparison)
    assert new.frame["Router"].tolist() == ["FM"]
    assert old.frame["Router"].tolist() == ["FM", "EM (3)"]
    assert "Older runs" in old.caption
    assert "Older runs" not in new.caption


def test_times_are_shown_only_where_the_load_was_low(add_run: AddRun, tmp_path: Path) -> None:
    low, high = {"before": 0.2, "after": 1.0, "cores": 2}, {"before": 0.2, "after": 1.9, "cores": 2}
    for seed, load in enumerate((low, low), start=1):
        add_run(tmp_path / "demo", "fm", seed, 0.9, machine_load=load, wall_time_s=7380.0)
        add_run(tmp_path / "demo", "em", seed, 0.9, machine_load=low if seed == 1 else high)
        add_run(tmp_path / "old", "fm", seed, 0.9)
    found = table(tmp_path / "demo")
    assert [found["FM"][name] for name in ("Training", "Images/s", "ms/batch")] == ["2:03 h", "1,000", "5.0"]
    assert found["EM (3)"]["Training"] == "–", "one seed ran beside others"
    assert "Training" not in table(tmp_path / "old")["FM"], "nobody knows the load"


@pytest.mark.parametrize(("after", "minutes"), [(1.6, "2 min"), (6.0, None)])
def test_times_on_a_gpu_that_other_runs_shared_are_not_shown(
    add_run: AddRun, tmp_path: Path, after: float, minutes: str | None
) -> None:
    load = {"before": 0.2, "after": after, "cores": 16}
    add_run(tmp_path / "demo", "fm", 1, 0.9, machine_load=load, device="NVIDIA H200")
    assert table(tmp_path / "demo")["FM"].get("Training") == minutes


def test_numbers_for_machines(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic)
    found = numbers(Comparison.of(tmp_path / "table3", protocol)).set_index("router")
    assert found.loc["Dynamic (3)", "p_holm"] == pytest.approx(stats.ttest_rel(DYNAMIC, FM).pvalue)
    assert found.loc["Dynamic (3)", ["baseline", "pairs", "verdict"]].tolist() == ["fm", 3, "cannot be told apart"]
    assert found["n"].tolist() == [3, 3, 0, 0, 0]
    assert found["seeds_missing"].tolist() == [0, 0, 3, 0, 0]


def test_a_page_shows_what_was_run_and_says_once_what_rows_share(add_paper_run: AddRun, tmp_path: Path) -> None:
    generated = {"data_title": "affNIST (generated)", "stands_in_for": "affNIST", "steps": 2000}
    for seed, (fm, dynamic) in enumerate(zip(FM, DYNAMIC, strict=True), start=1):
        add_paper_run(tmp_path, "table3", "fm", seed, fm, **generated)
        add_paper_run(tmp_path, "table3", "dynamic", seed, dynamic, settings={"arch.vote_gain": 0.125}, **generated)
    (table,) = tables(Comparison.of(tmp_path / "table3", protocol), all_rows=False)
    found = table.frame[["Router", "Paper %", OURS]].to_numpy().tolist()
    assert found == [
        ["FM, the paper's", "93.85 ± 0.29", "–"],
        ["FM", "–", interval(FM)],
        ["Dynamic (3), the paper's", "92.06 ± 0.71", "–"],
        ["Dynamic (3) [vote_gain=0.125]", "–", interval(DYNAMIC)],
        ["EM (3), the paper's", "78.29 ± 2.04", "–"],
        ["Sabour et al.", "79.00", "–"],
        ["Hinton et al.", "93.10", "–"],
    ]
    assert "differs from the paper's in: 2,000 of 40,000 steps." in table.caption


def test_a_page_leaves_out_data_that_nobody_ran_with_its_references(add_paper_run: AddRun, tmp_path: Path) -> None:
    add_paper_run(tmp_path, "table2", "fm", 1, 0.9, data="CIFAR-10")
    (table,) = tables(Comparison.of(tmp_path / "table2", protocol), all_rows=False)
    shown = ["FM", "Sabour et al.", "Hinton et al.", "Nair et al.", "HitNet", "DeepCaps"]
    assert table.frame["Router"].tolist() == shown
    assert table.frame[OURS][0] == "90.00 (2 of 3 seeds missing)"
    assert "Data: CIFAR-10." in table.caption


@pytest.mark.parametrize("left_behind", ["config.yaml", "error.txt"])
def test_a_run_that_was_begun_is_a_row_of_a_page(add_paper_run: AddRun, tmp_path: Path, left_behind: str) -> None:
    add_paper_run(tmp_path, "table3", "fm", 1, 0.9, steps=2000)
    begun = tmp_path / "table3" / "affnist" / "resnet_capsnet_small" / "em" / "seed1-0"
    begun.mkdir(parents=True)
    (begun / left_behind).write_text("{}")
    (table,) = tables(Comparison.of(tmp_path / "table3", protocol), all_rows=False)
    shown = dict(zip(table.frame["Router"], table.frame[OURS], strict=True))
    assert shown["EM (3)"] == "– (3 seeds missing)"
    assert shown["FM [2,000 of 40,000 steps]"] == "90.00", "a caption would speak of EM, too"


def test_a_caption_says_what_all_runs_share(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, day in enumerate(("2026-03-01", "2026-03-04", "2026-03-02"), start=1):
        changes = {"date": day, "device": "cpu, 1 threads, A CPU"}
        add_paper_run(tmp_path, "table3", "fm", seed, 0.9, **changes)
    (table,) = tables(Comparison.of(tmp_path / "table3", protocol))
    for told in (
        *("network resnet_capsnet_small", "training images 60,000", "steps 40,000", "batch 128", "loss margin"),
        *(
            "optimizer Adam",
            "rate 0.0001",
            "finished 2026-03-01 to 2026-03-04",
            "on cpu, 1 threads, A CPU",
            "Data: affNIST",
        ),
        "No run crashed, and each learned.",
    ):
        assert told in table.caption


def test_a_caption_says_which_runs_went_on_elsewhere(add_run: AddRun, tmp_path: Path) -> None:
    first, second = ({"git_commit": commit, "device": "cpu", "from_step": 0, "to_step": 5} for commit in ("a", "b"))
    for seed, sessions in enumerate(([first, second], [first, first], [])):
        add_run(tmp_path / "moved", "fm", seed, 0.9, sessions=sessions)
    (table,) = tables(Comparison.of(tmp_path / "moved", protocol))
    assert "1 of 3 runs went on with another commit." in table.caption


def test_a_caption_says_that_part_of_the_test_set_counts(add_run: AddRun, tmp_path: Path) -> None:
    settings = {"seed": 1, "data": {"seed": 1, "test_subset": 1000}}
    add_run(tmp_path / "part", "fm", 1, 0.9, settings=settings, test_examples=1000)
    add_run(tmp_path / "whole", "fm", 1, 0.9, test_examples=1000)
    captions = [tables(Comparison.of(tmp_path / name, protocol))[0].caption for name in ("part", "whole")]
    assert ["test images 1,000" in caption for caption in captions] == [True, False]


def test_what_differs_is_in_no_caption(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path / "demo", "fm", 1, 0.9, epochs=3)
    add_run(tmp_path / "demo", "em", 1, 0.9, epochs=1)
    (table,) = tables(Comparison.of(tmp_path / "demo", protocol))
    assert "epochs" not in table.caption


def test_smoke_runs_are_marked_and_have_no_papers_number_beside_them(add_paper_run: AddRun, tmp_path: Path) -> None:
    stand_in = {"data_title": "affNIST (stand-in)", "stands_in_for": "affNIST"}
    add_paper_run(tmp_path, "table3", "fm", 1, 0.9, smoke=True, **stand_in)
    comparison = Comparison.of(tmp_path / "table3", protocol)
    assert comparison.title == "Smoke test of table3"
    (table,) = tables(comparison)
    assert "Paper %" not in table.frame
    assert table.caption.startswith("Smoke runs: they were cut short")
    assert "Data: affNIST (stand-in) / resnet_capsnet_small." in table.caption


def test_parts_of_a_test_set_and_further_sets_have_columns(add_paper_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in enumerate(FM, start=1):
        for router in ("fm", "dynamic"):
            folder = add_paper_run(tmp_path, "table3", router, seed, accuracy)
            record = json.loads((folder / "result.json").read_text())
            record["metrics"]["test/accuracy_translated"] = accuracy / 2
            if router == "fm":
                record["metrics"]["test/accuracy_trained_places"] = accuracy / 3
            (folder / "result.json").write_text(json.dumps(record))
    found = table(tmp_path / "table3")
    assert found["FM"]["Translated %"] == interval([one / 2 for one in FM])
    assert found["FM"]["Trained places %"] == interval([one / 3 for one in FM])
    assert (found["Dynamic (3)"]["Trained places %"], found["EM (3)"]["Translated %"]) == ("–", "–")
    exact = numbers(Comparison.of(tmp_path / "table3", protocol)).set_index("router")
    assert exact.loc["FM", "translated"] == pytest.approx(50 * sum(FM) / 3)


def test_a_table_says_exact_match_where_images_have_any_number_of_labels(add_run: AddRun, tmp_path: Path) -> None:
    """It is no accuracy, and stands in no table with one."""
    for split, settings in (("test", None), ("val", {"seed": 1, "data": {"val_fraction": 0.1}})):
        root = tmp_path / split
        metrics = {f"{split}/exact_match": 0.5, f"{split}/f1": 0.25, f"{split}/map": 0.75}
        history = [{"epoch": 1, **metrics}]
        add_run(root, "fm", 1, 0, metrics=metrics, history=history, most_frequent_labels=0.48, settings=settings)
        (found,) = tables(Comparison.of(root, protocol))
        column = {"test": "Test exact match %", "val": "Validation exact match %"}[split]
        (row,) = found.frame.to_dict("records")
        assert (row[column], row["F1 %"], row["mAP %"]) == ("50.00", "25.00", "75.00")
        assert row["Did not learn"] == "1 of 1"  # within 3 points of naming the most frequent set
        assert "one is predicted where its activation is above 0.5" in found.caption
    add_run(tmp_path / "test", "fm", 1, 0.9, loss="spread")
    both = tables(Comparison.of(tmp_path / "test", protocol))
    assert [next(name for name in map(str, table.frame) if name.startswith("Test")) for table in both] == [
        "Test accuracy %",
        "Test exact match %",
    ]
