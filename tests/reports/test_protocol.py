"""What sets a run apart from the paper's."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from capsbench.launch.config import CONF
from capsbench.launch.protocols import protocol
from capsbench.reports.paper import targets
from capsbench.reports.protocol import Paper
from capsbench.runs import Identity, Result

AddRun = Callable[..., Path]
PAPER = Paper(targets()["table3"], protocol)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"steps": 2000}, ("2,000 of 40,000 steps",)),
        ({"steps": 50_000}, ("50,000 steps",)),
        ({"settings": {"arch.vote_gain": 0.25}}, ("arch.vote_gain=0.25",)),
        ({"settings": {"optim.optimizer._target_": "torch.optim.SGD"}}, ("optim.optimizer=SGD",)),
        ({"settings": {"loss": "spread"}}, ("loss=spread",)),
        ({"settings": {"router.iterations": 1}}, ("router.iterations=1",)),
        ({"arch": "capsnet", "settings": {"arch._target_": "capsbench.models.CapsNet"}}, ("arch=capsnet",)),
        ({"full": False, "train_examples": 5000}, ("5,000 training images",)),
        (
            {"steps": 9, "full": False, "train_examples": 50, "settings": {"loss": "spread", "arch.groups": 2}},
            ("50 training images", "9 of 40,000 steps", "arch.groups=2", "loss=spread"),
        ),
    ],
)
def test_what_sets_a_run_apart(
    add_paper_run: AddRun, tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    result = Result.load(add_paper_run(tmp_path, "table3", "dynamic", 1, 0.9, **changes))
    assert PAPER.deviations(result) == words
    assert PAPER.repeats(result) == (not words)


def test_a_setting_that_came_later_is_told_as_it_was(add_paper_run: AddRun, tmp_path: Path) -> None:
    result = Result.load(add_paper_run(tmp_path, "table3", "fm", 1, 0.9))
    settings: Any = copy.deepcopy(dict(result.settings))
    del settings["router"]["normalize_pose"]
    assert PAPER.repeats(dataclasses.replace(result, settings=settings))
    del settings["arch"]["weight_init"]
    kernel = Paper(targets()["table3"], lambda *names: _with(protocol(*names), "arch", weight_init="kernel"))
    assert kernel.deviations(dataclasses.replace(result, settings=settings)) == ("arch.weight_init=pair",)


def _with(identity: Identity, part: str, **settings: Any) -> Identity:
    changed = {**identity.settings, part: identity.settings[part] | settings}
    return dataclasses.replace(identity, settings=changed)


def test_a_class_that_moved_sets_no_run_apart(add_paper_run: AddRun, tmp_path: Path) -> None:
    moved = {"loss._target_": "capsbench.losses.margin.MarginLoss"}
    result = Result.load(add_paper_run(tmp_path, "table3", "fm", 1, 0.9, settings=moved))
    assert PAPER.repeats(result)


def test_other_routers_and_data_are_not_the_papers(add_paper_run: AddRun, tmp_path: Path) -> None:
    assert not PAPER.repeats(Result.load(add_paper_run(tmp_path, "table3", "mean", 1, 0.9)))
    assert not PAPER.repeats(Result.load(add_paper_run(tmp_path, "table3", "fm", 1, 0.9, data_title="digits")))


@pytest.fixture
def as_composed(add_run: AddRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The result of a run as a command line would make it: as_composed("table3", "affNIST", "router=em", …)."""

    def make(experiment: str, title: str, *overrides: str) -> Result:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose("train", [f"experiment={experiment}", *overrides], return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", None)  # and so again after the test
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            choices = config.pop("hydra").runtime.choices
        settings: Any = OmegaConf.to_container(config, resolve=True)
        identity = Identity.of(settings, choices)
        folder = add_run(
            *(tmp_path, identity.router, 1, 0.9),
            settings=identity.settings,
            choices=identity.choices,
            arch=identity.arch,
            data_title=title,
            epochs=max(config.trainer.max_epochs, 1),
            steps=max(config.trainer.max_steps, 0),
        )
        return Result.load(folder)

    return make


@pytest.mark.parametrize(
    ("experiment", "title", "overrides", "words"),
    [
        (
            *("table2", "Fashion-MNIST", ["arch.blocks=[2,2,2]", "arch.hidden_capsules=[32]"]),
            ("arch.blocks=[2, 2, 2]", "arch.hidden_capsules=[32]"),
        ),
        (
            *("table2", "Fashion-MNIST", ["arch.vote_gain=0.1", "arch.vote_norm=none"]),
            ("arch.vote_gain=0.1", "arch.vote_norm=none"),
        ),
        ("table2", "Fashion-MNIST", ["loss.normalize=true"], ("loss.normalize=true",)),
        (
            "table2",
            "Fashion-MNIST",
            ["+trainer.gradient_clip_val=0.5", "trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=4"],
            ("trainer.accumulate_grad_batches=4", "trainer.gradient_clip_val=0.5", "trainer.precision=bf16-mixed"),
        ),
        ("fig4", "Fashion-MNIST", ["arch.filters=8"], ("arch.filters=8",)),
        ("fig4", "Fashion-MNIST", ["arch=capsnet_light"], ("arch=capsnet_light",)),
        (
            *("fig4", "Fashion-MNIST", ["arch=capsnet_light", "arch.weight_init=pair", "arch.filters=48"]),
            ("arch=capsnet_light", "arch.filters=48", "arch.weight_init=pair"),
        ),
        ("table2", "SVHN", ["data=svhn", "arch=resnet_capsnet_small"], ("arch=resnet_capsnet_small",)),
        ("fig4", "Fashion-MNIST", ["data.standardized=false"], ("data.standardized=false",)),
        ("table3", "affNIST", ["decoder.loss_weight=0.0"], ("decoder.loss_weight=0.0",)),
        ("table3", "affNIST", ["loss.present=0.6"], ("loss.present=0.6",)),
        ("table3", "affNIST", ["loss=spread"], ("loss=spread",)),
        ("table3", "affNIST", ["decoder=none"], ("decoder=none",)),
        ("table3", "affNIST", ["router.scale=0.25"], ("router.scale=0.25",)),
        ("table3", "affNIST", ["router=dynamic", "router.detach=true"], ("router.detach=true",)),
        (
            *("table3", "affNIST", ["optim.optimizer.betas=[0.5,0.9]"]),
            ("optim.optimizer.betas=[0.5, 0.9]",),
        ),
        ("table6", "smallNORB", ["optim.scheduler.step_size=60"], ("optim.scheduler.step_size=60",)),
        ("table6", "smallNORB", ["data.brightness=0.25"], ("data.brightness=0.25",)),
        ("table6", "smallNORB", ["data.eval_batch_size=64", "data.absent=fetch"], ()),
        ("fig4", "CIFAR-10", ["data=cifar10_jpeg"], ()),
    ],
)
def test_any_setting_sets_a_run_apart(
    as_composed: Callable[..., Result], experiment: str, title: str, overrides: list[str], words: tuple[str, ...]
) -> None:
    paper = Paper(targets()[experiment], protocol)
    result = as_composed(experiment, title, *overrides)
    assert paper.deviations(result) == words
    assert paper.repeats(result) == (not words)


def test_what_routers_and_data_of_ones_own_have_is_no_deviation(as_composed: Callable[..., Result]) -> None:
    own = ["~router.detach", "+router.gain=5.0"]
    result = as_composed("table3", "digits", "router=dynamic", "data=digits", *own)
    assert PAPER.deviations(dataclasses.replace(result, router="mean")) == ()
