"""Rows have short labels that say what differs."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsbench.launch.protocols import protocol
from capsbench.reports.cells import tables
from capsbench.reports.comparison import Comparison, panels
from capsbench.reports.labels import COLUMNS, differences
from capsbench.reports.records import numbers
from capsbench.reports.runs import Run
from capsbench.runs import Result

AddRun = Callable[..., Path]
FM = {"_target_": "capsbench.routing.FMAgreement"}
OWN = {"_target_": "mine.Router"}


def run(seed: int = 1, router: str = "fm", loss: str = "margin", **changes: Any) -> Run:
    """A run of a router with these settings, given as part__name."""
    parts: dict[str, dict[str, Any]] = {"router": dict(OWN if router == "mine" else FM), "trainer": {"max_epochs": 10}}
    parts |= {"arch": {"_target_": "capsbench.models.ResNetCapsNet"}, "loss": {"_target_": f"x.{loss}"}}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        parts[part][key] = value
    chosen = {"router": router, "loss": loss}
    told = {"experiment": "e", "data": "d", "arch": "a", "router": router, "seed": seed, "identity": "x"}
    whole = {"seed": seed, "data": {"seed": seed}, **parts}
    return Run(Result(**told, settings=whole, choices=chosen, metrics={"test/accuracy": 0.5}), Path())


def labels(runs: list[Run]) -> list[str]:
    """The label of each condition, the first run's first."""
    (panel,) = panels(runs)
    by_seed = sorted(panel.conditions, key=lambda condition: min(runs.index(run) for run in condition.runs))
    return [condition.label for condition in by_seed]


def test_settings_changed_one_at_a_time_are_told_alone() -> None:
    base, gain, norm = run(), run(arch__vote_gain=0.25), run(arch__vote_norm="none")
    assert labels([base, gain, norm]) == [
        "FM [vote_gain=null, vote_norm=shared]",
        "FM [vote_gain=0.25]",
        "FM [vote_norm=none]",
    ]


def test_a_factorial_tells_every_setting_in_every_row() -> None:
    runs = [
        run(router=router, loss=loss, arch__weight_init=init)
        for router, loss, init in itertools.product(("fm", "mine"), ("margin", "spread"), ("pair", "kernel"))
    ]
    assert labels(runs)[:5] == [
        "FM [weight_init=pair, loss=margin]",
        "FM [weight_init=kernel, loss=margin]",
        "FM [weight_init=pair, loss=spread]",
        "FM [weight_init=kernel, loss=spread]",
        "mine [weight_init=pair, loss=margin]",
    ]


def test_how_long_a_router_of_ones_own_was_trained_stands_beside_its_variant() -> None:
    long, short = run(router="mine", trainer__max_epochs=3), run(router="mine", router__iterations=2)
    short.result.settings["trainer"]["max_epochs"] = 1
    long.result.settings["router"]["iterations"] = 5
    assert labels([long, short]) == [
        "mine [router.iterations=5, max_epochs=3]".replace("router.", ""),
        "mine [iterations=2, max_epochs=1]",
    ]


def test_a_name_that_two_parts_have_keeps_its_part() -> None:
    runs = [run(router__scale=scale, loss="x", loss__scale=1.0) for scale in (0.5, 1.0)]
    assert labels(runs) == ["FM [router.scale=0.5]", "FM [router.scale=1.0]"]


SETTINGS = st.fixed_dictionaries(
    {
        "router": st.sampled_from(["fm", "mine"]),
        "loss": st.sampled_from(["margin", "spread"]),
        "arch__vote_gain": st.sampled_from([None, 0.25, 1.0]),
        "arch__weight_init": st.sampled_from(["pair", "kernel"]),
        "trainer__max_epochs": st.sampled_from([1, 3]),
    }
)


@given(st.lists(SETTINGS, min_size=1, max_size=7), st.randoms())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_labels_tell_conditions_apart_in_any_order(chosen: list[dict[str, Any]], random: Any) -> None:
    runs = [run(**each) for each in chosen]
    found = differences(runs)
    told = {(run.result.router, *apart.told.items()) for run, apart in zip(runs, found, strict=True)}
    assert len(told) == len({tuple(sorted(each.items(), key=str)) for each in chosen})
    shuffled = random.sample(runs, len(runs))
    again = dict(zip(map(id, shuffled), differences(shuffled), strict=True))
    assert [again[id(run)].told for run in runs] == [apart.told for apart in found]


@given(st.lists(SETTINGS, min_size=1, max_size=7))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_a_row_does_not_tell_is_usual(chosen: list[dict[str, Any]]) -> None:
    for found in differences([run(**each) for each in chosen]):
        assert all(found.told.get(key, found.usual[key]) == value for key, value in found.all.items())


def test_a_fixed_seed_of_the_data_is_one_setting_of_all_seeds() -> None:
    runs = [run(seed, router) for seed in (1, 2, 3) for router in ("fm", "mine")]
    for each in runs:
        each.result.settings["data"]["seed"] = 2
    (panel,) = panels(runs)
    assert [len(condition.runs) for condition in panel.conditions] == [3, 3]
    seeds = [run(seed) for seed in (1, 2, 3)]
    (panel,) = panels(seeds)
    assert [len(condition.runs) for condition in panel.conditions] == [3]


def test_a_whole_number_is_the_float_that_it_stands_for() -> None:
    (panel,) = panels([run(1, router__scale=1), run(2, router__scale=1.0)])
    assert [len(condition.runs) for condition in panel.conditions] == [2]


def test_settings_do_not_take_the_names_of_columns(add_run: AddRun, tmp_path: Path) -> None:
    for seed, value in itertools.product((1, 2, 3), (0.5, 0.75)):
        own = {"n": value, "std": value, "mine": value}
        add_run(tmp_path, "mine", seed, 0.8, settings={"seed": seed, "data": {"seed": int(8 * value)}, "router": own})
    comparison = Comparison.of(tmp_path, protocol)
    (table,) = tables(comparison)
    assert {"n", "router.n", "router.std", "mine", "data.seed"} <= set(table.frame)
    assert table.frame["n"].tolist() == ["3", "3"]
    exact = numbers(comparison)
    assert exact["router.std"].tolist() == ["0.5", "0.75"]
    assert {name for name in exact if "." not in str(name)} - {"mine"} <= COLUMNS
