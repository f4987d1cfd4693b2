"""The recipes of the other systems of table 2: composed and built, and how they depart from what was published."""

import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import CONF, Composer, open_configuration
from capsbench.launch.protocols import departures
from capsbench.launch.sweep import plan
from capsbench.reports.paper import recipes, target_of

RECIPES = list(recipes("table2"))
PARAMETERS = {
    ("table2_sabour", "cifar10"): 22_476_448,
    ("table2_sabour_fashion", "fashion_mnist"): 8_215_568 + 160,
    ("table2_sabour_svhn", "svhn"): 1_004_896 + 80,
    ("table2_nair", "fashion_mnist"): 8_215_568,
    ("table2_nair", "cifar10"): 11_749_120,
    ("table2_nair", "svhn"): 11_749_120,
    ("table2_hinton", "cifar10"): 458_900,
    ("table2_hitnet", "fashion_mnist"): 6_804_544 + 1_411_344,
    ("table2_hitnet", "cifar10"): 7_992_896 + 3_756_544,
    ("table2_hitnet", "svhn"): 7_992_896 + 3_756_544,
    ("table2_deepcaps", "fashion_mnist"): 8_441_920 + 58_417,
    ("table2_deepcaps", "cifar10"): 13_359_424 + 67_571,
    ("table2_deepcaps", "svhn"): 13_359_424 + 67_571,
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    with open_configuration() as loader:
        return Composer(loader)


@pytest.mark.parametrize(("experiment", "data"), PARAMETERS)
def test_a_recipe_is_composed_and_built(composer: Composer, experiment: str, data: str) -> None:
    config = composer.compose([f"experiment={experiment}", f"data={data}", "data.absent=stand_in"])
    resolved = OmegaConf.create(dict(config.resolved))
    assert build_module(resolved, build_data(resolved)).num_parameters == PARAMETERS[experiment, data]


@pytest.mark.parametrize("experiment", RECIPES)
def test_a_recipe_sweeps_over_the_papers_numbers(experiment: str) -> None:
    target = target_of(experiment)
    assert target is not None
    with open_configuration() as loader:
        runs = [run.identity for run in plan(loader, [f"experiment={experiment}"])]
    assert {(run.router, run.data, run.seed) for run in runs} == {
        (router, target.data[title], seed) for router, title in target.numbers for seed in (1, 2, 3)
    }
    assert {(experiment, run.data) for run in runs} <= PARAMETERS.keys()


def test_every_number_of_others_has_a_recipe() -> None:
    table = target_of("table2")
    assert table is not None
    found = [
        (one.method and one.method.title, data, number)
        for one in recipes("table2").values()
        for (_, data), number in one.numbers.items()
    ]
    theirs = [(other.title, data, number) for other in table.references for data, number in other.numbers.items()]
    assert sorted(found, key=str) == sorted(theirs, key=str)


@pytest.mark.parametrize("experiment", RECIPES)
def test_a_recipe_says_whose_each_setting_is_and_how_it_departs(experiment: str) -> None:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    legend = set(re.findall(r'"(\w+)"', text))
    for line in re.findall(r"^ +(?:- override )?[\w/]+: +[^#\s].*$", text, re.MULTILINE):
        said = re.search(r" # (\w+)\b", line)
        assert said, line
        assert said[1] in legend, line
    assert {"# Paper:", "# Reached:", "# Time:", "# Departs:"} <= set(re.findall(r"^# \w+:", text, re.MULTILINE))
    assert len(departures(experiment)) > 20
    assert "#" not in departures(experiment)


def settings(experiment: str, *words: str) -> dict[str, Any]:
    with open_configuration() as loader:
        (run,) = plan(loader, [f"experiment={experiment}", "seed=1", *words])
    return dict(run.identity.settings)


def test_deepcaps_sees_grey_images_at_their_size_and_others_enlarged() -> None:
    grey, colour = (settings("table2_deepcaps", f"data={data}") for data in ("fashion_mnist", "cifar10"))
    assert (grey["data"]["resize"], colour["data"]["resize"]) == (None, 64)
    weights = [each["decoder"]["loss_weight"] for each in (grey, colour)]
    assert weights == pytest.approx([0.4 / 784, 0.4 / (3 * 64 * 64)], rel=1e-8)


def test_rates_fall_as_published() -> None:
    per_2000 = settings("table2_sabour")["optim"]["scheduler"]["gamma"] ** 2_000
    per_20000 = settings("table2_hinton")["optim"]["scheduler"]["gamma"] ** 20_000
    assert [per_2000, per_20000] == pytest.approx([0.96, 0.96], rel=1e-9)
