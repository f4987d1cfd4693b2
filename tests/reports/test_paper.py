"""The paper's numbers, and what a run must be to stand beside them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from capsbench.launch.config import CONF
from capsbench.reports.paper import Number, inference_ms, official, targets
from capsbench.runs import Identity, Result

AddRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("experiment", "data", "router", "number"),
    [
        ("table2", "Fashion-MNIST", "fm", Number(94.70, 0.17)),
        ("table2", "CIFAR-10", "fm", Number(93.20, 0.24)),
        ("table2", "SVHN", "fm", Number(96.79, 0.04)),
        ("table3", "affNIST", "fm", Number(93.85, 0.29)),
        ("table3", "affNIST", "dynamic", Number(92.06, 0.71)),
        ("table3", "affNIST", "em", Number(78.29, 2.04)),
        ("table5", "Multi-MNIST", "fm", Number(94.5)),
        ("table6", "smallNORB", "dynamic1", Number(91.74, 0.86)),
        ("table6", "smallNORB", "dynamic2", Number(92.73, 0.62)),
        ("table6", "smallNORB", "dynamic", Number(93.36, 0.69)),
        ("table6", "smallNORB", "em1", Number(91.28, 1.02)),
        ("table6", "smallNORB", "em2", Number(93.55, 0.75)),
        ("table6", "smallNORB", "em", Number(92.33, 0.64)),
        ("table6", "smallNORB", "fm", Number(93.60, 0.53)),
    ],
)
def test_the_papers_numbers(experiment: str, data: str, router: str, number: Number) -> None:
    assert targets()[experiment].numbers[router, data] == number


def test_methods_of_others() -> None:
    by_title = {other.title: other for other in targets()["table2"].references}
    assert list(by_title) == ["Sabour et al.", "Hinton et al.", "Nair et al.", "HitNet", "DeepCaps"]
    assert by_title["DeepCaps"].numbers["SVHN"] == Number(97.16)
    assert set(by_title["Hinton et al."].numbers) == {"CIFAR-10"}
    assert [other.numbers["affNIST"].mean for other in targets()["table3"].references] == [79.00, 93.10]


def test_table_1() -> None:
    assert inference_ms()["CIFAR-10"]["gpu"] == {"dynamic1": 5.79, "dynamic": 8.89, "fm": 5.22}
    assert inference_ms()["Fashion-MNIST"]["cpu"]["dynamic"] == 157.69


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
        ({"arch": "capsnet"}, ("arch=capsnet",)),
        ({"full": False, "train_examples": 5000}, ("5,000 training images",)),
    ],
)
def test_what_sets_a_run_apart(
    add_paper_run: AddRun, tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    result = Result.load(add_paper_run(tmp_path, "table3", "dynamic", 1, 0.9, **changes))
    assert targets()["table3"].deviations(result) == words
    assert targets()["table3"].repeats(result) == (not words)


def test_other_routers_and_data_are_not_the_papers(add_paper_run: AddRun, tmp_path: Path) -> None:
    target = targets()["table3"]
    assert not target.repeats(Result.load(add_paper_run(tmp_path, "table3", "mean", 1, 0.9)))
    assert not target.repeats(Result.load(add_paper_run(tmp_path, "table3", "fm", 1, 0.9, data_title="digits")))


DATA = {
    "SVHN": "svhn",
    "Fashion-MNIST": "fashion_mnist",
    "CIFAR-10": "cifar10",
    "affNIST": "affnist",
    "Multi-MNIST": "multi_mnist",
    "smallNORB": "small_norb",
}
TO_RUN = [
    (experiment, title, router)
    for experiment, target in targets().items()
    if (CONF / "experiment" / f"{experiment}.yaml").is_file()
    for title in target.data
    for router in target.routers
    if (CONF / "router" / f"{router}.yaml").is_file()
]


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
            steps=config.trainer.max_steps,
        )
        return Result.load(folder)

    return make


@pytest.mark.parametrize(("experiment", "title", "router"), TO_RUN)
def test_our_experiments_are_the_papers(
    as_composed: Callable[..., Result], experiment: str, title: str, router: str
) -> None:
    """What conf/experiment makes of a run may stand beside the paper's number."""
    result = as_composed(experiment, title, f"router={router}", f"data={DATA[title]}")
    assert official(result) == title
    assert targets()[experiment].deviations(result) == ()
    assert targets()[experiment].repeats(result)


@pytest.mark.parametrize(
    ("experiment", "title", "overrides", "words"),
    [
        (
            *("table2", "Fashion-MNIST", ["arch.blocks=[1,1,1]", "arch.hidden_capsules=[]"]),
            ("arch.blocks=[1, 1, 1]", "arch.hidden_capsules=[]"),
        ),
        (
            *("table2", "Fashion-MNIST", ["arch.vote_gain=0.1", "arch.vote_norm=none"]),
            ("arch.vote_norm=none", "arch.vote_gain=0.1"),
        ),
        ("table2", "Fashion-MNIST", ["loss.normalize=true"], ("loss.normalize=True",)),
        (
            "table2",
            "Fashion-MNIST",
            ["+trainer.gradient_clip_val=0.5", "trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=4"],
            ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5", "trainer.accumulate_grad_batches=4"),
        ),
        ("fig4", "Fashion-MNIST", ["arch.filters=8"], ("arch.filters=8",)),
        ("fig4", "Fashion-MNIST", ["data.standardized=false"], ("data.standardized=False",)),
        ("table3", "affNIST", ["decoder.loss_weight=0.0"], ("decoder.loss_weight=0.0",)),
        ("table3", "affNIST", ["loss.present=0.6"], ("loss.present=0.6",)),
        ("table3", "affNIST", ["loss=spread"], ("loss=spread",)),
        ("table3", "affNIST", ["decoder=none"], ("decoder=none",)),
        ("table3", "affNIST", ["router.scale=1.0"], ("router.scale=1.0",)),
        ("table3", "affNIST", ["router=dynamic", "router.detach=true"], ("router.detach=True",)),
        (
            *("table3", "affNIST", ["optim.optimizer.betas=[0.5,0.9]"]),
            ("optim.optimizer.betas=[0.5, 0.9]",),
        ),
        ("table6", "smallNORB", ["optim.scheduler.step_size=60"], ("optim.scheduler.step_size=60",)),
        ("table6", "smallNORB", ["data.brightness=0.0"], ("data.brightness=0.0",)),
        ("table6", "smallNORB", ["data.eval_batch_size=64", "data.absent=fetch"], ()),
        ("fig4", "CIFAR-10", ["data=cifar10_jpeg"], ()),
    ],
)
def test_any_setting_sets_a_run_apart(
    as_composed: Callable[..., Result], experiment: str, title: str, overrides: list[str], words: tuple[str, ...]
) -> None:
    result = as_composed(experiment, title, *overrides)
    assert targets()[experiment].deviations(result) == words
    assert targets()[experiment].repeats(result) == (not words)


def test_what_routers_and_data_of_ones_own_have_is_no_deviation(as_composed: Callable[..., Result]) -> None:
    own = ["~router.detach", "+router.gain=5.0"]
    result = as_composed("table3", "digits", "router=dynamic", "data=digits", *own)
    assert targets()["table3"].deviations(dataclasses.replace(result, router="mean")) == ()
