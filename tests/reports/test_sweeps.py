"""Runs by the settings that vary in them."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.sweeps import Sweep

AddRun = Callable[..., Path]


def sweep(root: Path) -> Sweep:
    (panel,) = Comparison.of(root, protocol).panels
    return Sweep.of(panel)


def add(add_run: AddRun, root: Path, router: str, seed: int, accuracy: float, **arch: object) -> None:
    add_run(root, router, seed, accuracy, settings={"seed": seed, "arch": arch, "router": {"iterations": 3}})


def test_numbers_are_ordered_by_size_and_no_setting_varies_with_the_seed(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2):
        for gain in (10, 2, 0.5):
            add(add_run, tmp_path, "fm", seed, 0.9, vote_gain=gain, width=8)
    found = sweep(tmp_path)
    (setting,) = found.settings
    assert setting.endswith("vote_gain")
    assert found.levels(setting) == ["0.5", "2", "10"]


def test_settings_that_always_vary_together_are_one(add_run: AddRun, tmp_path: Path) -> None:
    for seed, (gain, width) in enumerate(((0.5, 8), (1.0, 16), (1.0, 16))):
        add(add_run, tmp_path, "fm", seed, 0.9, vote_gain=gain, width=width)
    (setting,) = sweep(tmp_path).settings
    assert "vote_gain" in setting
    assert "width" in setting


def test_a_level_is_averaged_over_what_every_level_has(add_run: AddRun, tmp_path: Path) -> None:
    """The easy width was run at one gain only: it must not help that gain."""
    for seed in (1, 2):
        for gain, width, accuracy in ((0.5, 8, 0.5), (1.0, 8, 0.6), (1.0, 16, 0.9)):
            add(add_run, tmp_path, "fm", seed, accuracy + seed / 100, vote_gain=gain, width=width)
    found = sweep(tmp_path)
    gain, _ = sorted(found.settings)
    means = found.seeds_by_level(gain)
    assert means["0.5"].to_list() == pytest.approx([51, 52])
    assert means["1.0"].to_list() == pytest.approx([61, 62])


def test_a_combination_that_one_seed_did_not_finish_is_left_out(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2):
        for gain in (0.5, 1.0):
            for width in (8, 16):
                if (seed, gain, width) != (2, 1.0, 16):
                    add(add_run, tmp_path, "fm", seed, 0.3 + width / 100, vote_gain=gain, width=width)
    found = sweep(tmp_path)
    gain, width = sorted(found.settings)
    assert found.seeds_by_level(gain).to_numpy() == pytest.approx(38)
    assert found.seeds_by_level(width).to_numpy() == pytest.approx(np.array([[38, 46]] * 2))


def test_levels_without_a_common_combination_have_no_mean(add_run: AddRun, tmp_path: Path) -> None:
    for gain, width in ((0.5, 8), (1.0, 16), (2.0, 16)):
        add(add_run, tmp_path, "fm", 1, 0.9, vote_gain=gain, width=width)
    found = sweep(tmp_path)
    assert found.seeds_by_level(sorted(found.settings)[0]).empty


def test_runs_that_learned_can_be_told_from_others(add_run: AddRun, tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.1), (2, 0.129), (3, 0.9)):
        add_run(tmp_path, "fm", seed, accuracy, class_names=[str(number) for number in range(10)])
    assert sweep(tmp_path).that_learned.runs["seed"].to_list() == [3]


def test_routers_are_compared_over_settings_that_all_have(add_run: AddRun, tmp_path: Path) -> None:
    for gain, accuracy in ((0.5, 0.7), (1.0, 0.9)):
        for scale in (1, 2):
            settings = {"arch": {"vote_gain": gain}, "router": {"scale": scale}}
            add_run(tmp_path, "fm", 1, accuracy, settings=settings)
        add_run(tmp_path, "em", 1, accuracy - 0.2, settings={"arch": {"vote_gain": gain}, "router": {}})
    assert sweep(tmp_path).seeds_by_level("router").to_numpy() == pytest.approx(np.array([[80, 60]]))


def test_a_setting_that_some_runs_lack_and_others_share_does_not_vary(add_run: AddRun, tmp_path: Path) -> None:
    add_run(tmp_path, "fm", 1, 0.9, settings={"arch": {"vote_gain": 0.5}})
    add_run(tmp_path, "em", 1, 0.9, settings={"arch": {}})
    assert sweep(tmp_path).settings == ()


def test_a_seed_that_was_just_begun_takes_nothing_from_the_others(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for gain in (0.5, 1.0):
            for width in (8, 16):
                if seed < 3 or (gain, width) == (0.5, 8):
                    add(add_run, tmp_path, "fm", seed, 0.3 + width / 100, vote_gain=gain, width=width)
    found = sweep(tmp_path)
    gain, width = sorted(found.settings)
    assert found.seeds_by_level(gain).index.to_list() == [1, 2]
    assert found.seeds_by_level(width).to_numpy() == pytest.approx(np.array([[38, 46]] * 2))


def test_settings_that_vary_together_and_that_some_runs_lack_are_one(add_run: AddRun, tmp_path: Path) -> None:
    for router in ({}, {"scale": 1, "slope": 2}, {"scale": 2, "slope": 3}):
        add_run(tmp_path, "fm", 1, 0.9, settings={"router": router})
    (setting,) = sweep(tmp_path).settings
    assert sweep(tmp_path).levels(setting) == ["1, 2", "2, 3"]


def test_where_no_run_learned_no_level_has_a_mean_of_those_that_did(add_run: AddRun, tmp_path: Path) -> None:
    for gain, width in itertools.product((0.5, 1.0), (8, 16)):
        add(add_run, tmp_path, "fm", 1, 0.1, vote_gain=gain, width=width)
    found = sweep(tmp_path)
    assert [found.that_learned.seeds_by_level(name).empty for name in found.settings] == [True, True]


def test_crashed_runs_count_at_their_levels(add_run: AddRun, crash: Callable[..., None], tmp_path: Path) -> None:
    lost = []
    for router, gain, width in itertools.product(("fm", "em"), (0.5, 1.0), (8, 16)):
        settings = {"seed": 1, "arch": {"vote_gain": gain, "width": width}, "trainer": {"max_epochs": 1}}
        folder = add_run(tmp_path, router, 1, 0.1 if width == 8 else 0.9, settings=settings)
        lost += [folder] * ((router, gain) == ("em", 1.0))
    for folder in lost:
        crash(folder)
    found = sweep(tmp_path)
    gain, width = sorted(found.settings)
    assert [found.failed(gain, level) for level in found.levels(gain)] == [(2, 4), (3, 4)]
    assert [found.failed(width, level) for level in found.levels(width)] == [(4, 4), (1, 4)]
    assert found.of_router("EM (3)").failed(gain, "1.0") == (2, 2)


def test_a_level_and_a_router_of_which_every_run_crashed_are_listed(
    add_run: AddRun, crash: Callable[..., None], tmp_path: Path
) -> None:
    for seed, gain, width in itertools.product((1, 2), (0.5, 1.0, 2.0), (8, 16)):
        for router in ("fm", "em"):
            add(add_run, tmp_path, router, seed, 0.9, vote_gain=gain, width=width)
    for folder in [*tmp_path.rglob("em/*/result.json"), *tmp_path.rglob("fm/*/result.json")]:
        if folder.parent.parent.name == "em" or '"vote_gain": 2.0' in folder.read_text():
            crash(folder.parent)
    found = sweep(tmp_path)
    assert found.routers == ["FM", "EM (3)"]
    gain = next(name for name in found.settings if "vote_gain" in name)
    assert found.levels(gain) == ["0.5", "1.0", "2.0"]
    assert found.failed(gain, "2.0") == (8, 8)
    assert found.failed("router", "EM (3)") == (12, 12)
    assert found.seeds_by_level(gain)["2.0"].isna().all()


def test_a_router_is_averaged_over_settings_of_its_own_that_each_seed_finished(add_run: AddRun, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        add_run(tmp_path, "dynamic1", seed, 0.7, settings={"seed": seed, "router": {}})
        for scale, accuracy in ((0.5, 0.6), (1.0, 0.9)):
            if (seed, scale) != (3, 1.0):
                add_run(tmp_path, "fm", seed, accuracy, settings={"seed": seed, "router": {"scale": scale}})
    assert sweep(tmp_path).seeds_by_level("router")["FM"].tolist() == pytest.approx([60, 60, 60])
