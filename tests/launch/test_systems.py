"""conf/system: each choice is a network with its router, its loss and its learning rate."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from capsbench.launch.config import CONF, Composer, open_configuration
from capsbench.launch.sweep import PlannedRun, grid, plan

SYSTEMS = sorted(path.stem for path in (CONF / "system").glob("*.yaml"))


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with open_configuration() as loader:
        yield Composer(loader)


def planned(*words: str) -> list[PlannedRun]:
    with open_configuration() as loader:
        return plan(loader, list(words))


def swept(composer: Composer, experiment: str) -> dict[str, list[str]]:
    asked = grid(composer, [f"experiment={experiment}"])
    return {one.key_or_group: list(one.sweep_string_iterator()) for one in asked if one.is_sweep_override()}


def chosen(name: str) -> dict[str, str]:
    """What a system's file chooses, by group: {"/arch": "hitnet", …}."""
    found: dict[str, str] = {}
    for each in yaml.safe_load((CONF / "system" / f"{name}.yaml").read_text())["defaults"]:
        if isinstance(each, dict):
            found |= {key.removeprefix("override "): value for key, value in each.items()}
        elif each != "_self_":
            found |= chosen(each)
    return found


def test_a_system_is_named_by_its_network_and_router() -> None:
    choices = [chosen(name) for name in SYSTEMS]
    assert all(one.keys() == {"/arch", "/router", "/loss", "/optim"} for one in choices)
    pairs = {(one["/arch"], one["/router"]) for one in choices}
    assert len(pairs) == len(SYSTEMS)
    with_capsules = {arch for arch, router in pairs if router != "none"}
    assert {(arch, "dynamic1") for arch in with_capsules} <= pairs, "each has its control"


def test_a_system_makes_no_other_run_than_its_settings() -> None:
    (named,) = planned("system=capsnet_fm", "data=digits")
    (spelled,) = planned(
        "arch=capsnet_light", "router=fm", "loss=margin", "optim=adam", "optim.optimizer.lr=0.003", "data=digits"
    )
    assert named.folder == spelled.folder


def test_systems_are_compared_on_equal_terms(composer: Composer) -> None:
    runs = planned("experiment=systems", "system=resnet,matrix_em,hitnet", "seed=1")
    assert len(runs) == 3
    for part in ("data", "trainer", "decoder"):
        shared = [run.identity.settings[part] for run in runs]
        assert all(one == shared[0] for one in shared)
    assert not runs[0].identity.settings["data"]["val_fraction"]
    assert swept(composer, "systems") == {"seed": ["1", "2", "3"], "system": SYSTEMS}


def test_rates_are_chosen_with_the_same_budget_and_without_the_test_set(composer: Composer) -> None:
    found = swept(composer, "systems_rates")
    assert set(SYSTEMS) - set(found["system"]) == {"resnet", "resnet20"}, "whose rate is He et al.'s"
    assert found["optim.optimizer.lr"] == ["0.0003", "0.001", "0.003"]
    run = composer.compose(["experiment=systems_rates", "system=capsnet_fm"])
    assert run.resolved["data"]["val_fraction"] == 0.1


def test_a_system_of_ones_own_takes_one_file(tmp_path: Path) -> None:
    own = tmp_path / "system" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("# @package _global_\ndefaults:\n  - override /router: fm\noptim: {optimizer: {lr: 0.01}}\n")
    with open_configuration(str(tmp_path)) as loader:
        assert "mine" in swept(Composer(loader), "systems")["system"]
        (run,) = plan(loader, ["experiment=systems", "system=mine", "seed=1"])
    assert run.identity.settings["optim"]["optimizer"]["lr"] == 0.01


def test_what_the_command_line_says_counts_more(composer: Composer) -> None:
    run = composer.compose(["system=capsnet_fm", "router=dynamic1", "optim.optimizer.lr=0.5"])
    assert (run.choices["router"], run.resolved["optim"]["optimizer"]["lr"]) == ("dynamic1", 0.5)


def test_a_setting_that_only_the_systems_own_router_has_is_refused(composer: Composer) -> None:
    with pytest.raises(ValueError, match=r"does not accept router.batch_norm_momentum, which system=hitnet sets; "):
        composer.compose(["system=hitnet", "router=em"])
