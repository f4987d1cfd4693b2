"""The configuration files themselves: what they build is what the paper says."""

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from capsbench import data
from capsbench.launch import sweep
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import CONF, open_configuration
from capsbench.routing import DynamicRouting, EMRouting, FMAgreement
from capsbench.runs import Identity


def compose(*overrides: str) -> Any:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", list(overrides))


@pytest.mark.parametrize(
    ("arch", "image_shape", "classes", "parameters"),
    [
        ("capsnet", (1, 28, 28), 10, 6_804_224),
        ("capsnet", (3, 32, 32), 10, 7_992_576),
        ("capsnet_light", (1, 28, 28), 10, 705_728),
        ("capsnet_light", (3, 32, 32), 10, 1_002_816),
        ("deepcaps", (1, 28, 28), 10, 8_441_600),
        ("resnet_capsnet", (3, 32, 32), 10, 903_760),
        ("resnet_capsnet_small", (1, 40, 40), 10, 195_376),
        ("resnet_capsnet_small", (1, 32, 32), 5, 184_496),
    ],
)
def test_architectures(arch: str, image_shape: tuple[int, int, int], classes: int, parameters: int) -> None:
    config = compose(f"arch={arch}")
    model = instantiate(config.arch)(image_shape=image_shape, num_classes=classes, router=instantiate(config.router))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert all((norm.eps, norm.momentum) == (1e-3, 0.01) for norm in norms)


def test_routers() -> None:
    fm = instantiate(compose("router=fm").router)()
    assert isinstance(fm, FMAgreement)
    assert (fm.scale, fm.normalize_votes, fm.normalize_pose) == (0.5, True, True)
    dynamic = instantiate(compose("router=dynamic").router)()
    assert isinstance(dynamic, DynamicRouting)
    assert (dynamic.iterations, dynamic.detach) == (3, False)
    em = instantiate(compose("router=em").router)(num_parents=10)
    assert isinstance(em, EMRouting)
    assert em.iterations == 3


def test_adam_is_the_papers() -> None:
    optimizer = instantiate(compose("optim=adam").optim.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    group = optimizer.param_groups[0]
    assert (group["lr"], list(group["betas"]), group["eps"], group["weight_decay"]) == (1e-3, [0.9, 0.999], 1e-7, 0)


def test_sgd_is_he_et_als() -> None:
    config = compose("optim=sgd").optim
    optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 1e-4)
    scheduler = instantiate(config.scheduler)(optimizer)
    assert (sorted(scheduler.milestones), scheduler.gamma) == ([32_000, 48_000], 0.1)
    assert config.scheduler_interval == "step"


@pytest.mark.parametrize(
    ("experiment", "parameters"),
    [
        ("table3", 195_376 + 186_145),
        ("table3_authors", 195_376 + 186_145),
        ("table5", 455_633),
        ("table5_authors", 552_849),
    ],
)
def test_networks_with_decoder(experiment: str, parameters: int) -> None:
    config = compose(f"experiment={experiment}")
    module = build_module(config, build_data(config))
    assert module.num_parameters == parameters
    assert (config.optim.optimizer.lr, config.trainer.max_steps, config.data.batch_size) == (1e-4, 40_000, 128)
    assert config.decoder.loss_weight == 0.0005
    assert config.arch.vote_gain == 1.0


@pytest.mark.parametrize("arch", ["capsnet_light", "resnet_capsnet"])
@pytest.mark.parametrize("decoder", ["none", "deconv", "dense"])
def test_a_seed_is_the_same_start_for_every_router(arch: str, decoder: str) -> None:
    def parameters(router: str, seed: int) -> dict[str, torch.Tensor]:
        config = compose(
            *("data=digits", f"arch={arch}", f"router={router}", f"decoder={decoder}", f"seed={seed}"),
            *(["arch.blocks=[1,1,1]"] if arch == "resnet_capsnet" else ["arch.filters=8"]),
        )
        return dict(build_module(config, build_data(config)).named_parameters())

    fm, em, other = parameters("fm", 1), parameters("em", 1), parameters("fm", 2)
    assert fm.keys() < em.keys()
    assert all(em[name].equal(weight) for name, weight in fm.items())
    assert not any(weight.equal(fm[name]) for name, weight in other.items() if name.endswith("transform.weight"))


@pytest.mark.parametrize(
    ("experiment", "parameters"),
    [("fig4", 6_804_224), ("fig4_authors", 705_728), ("table6", 196_720), ("table6_authors", 196_720)],
)
def test_networks_without_decoder(experiment: str, parameters: int) -> None:
    config = compose(f"experiment={experiment}")
    assert build_module(config, build_data(config)).num_parameters == parameters


@pytest.mark.parametrize("arch", ["capsnet", "capsnet_light", "resnet_capsnet_small"])
@pytest.mark.parametrize("router", ["fm", "dynamic", "em"])
@pytest.mark.parametrize("decoder", ["none", "deconv", "dense"])
def test_decoders_are_an_axis(arch: str, router: str, decoder: str) -> None:
    config = compose("data=multi_mnist", f"arch={arch}", f"router={router}", f"decoder={decoder}")
    module = build_module(config, build_data(config))
    if decoder == "none":
        assert module.decoder is None
        return
    capsules = module.model(torch.rand(2, 1, 36, 36))
    drawn = module.decoder(capsules.poses, torch.tensor([[1, 2], [3, 4]]))
    assert drawn.shape == (2, 2, 1, 36, 36)
    assert 0 <= drawn.min() <= drawn.max() <= 1


def grid(*overrides: str) -> list[sweep.PlannedRun]:
    with open_configuration() as loader:
        return sweep.plan(loader, overrides)


@pytest.mark.parametrize(
    ("experiment", "data_sets", "routers", "arch", "epochs", "steps"),
    [
        ("fig4", {"svhn", "fashion_mnist", "cifar10"}, {"fm", "dynamic"}, "capsnet", 50, -1),
        ("fig5", {"svhn", "fashion_mnist", "cifar10"}, {"fm", "dynamic"}, "capsnet", 100, -1),
        ("table2", {"svhn", "fashion_mnist", "cifar10"}, {"fm"}, "resnet_capsnet", -1, 64_000),
        ("table3", {"affnist"}, {"fm", "dynamic", "em"}, "resnet_capsnet_small", -1, 40_000),
        ("table5", {"multi_mnist"}, {"fm"}, "resnet_capsnet_small", -1, 40_000),
        (
            *("table6", {"small_norb"}, {"fm", "dynamic1", "dynamic2", "dynamic", "em1", "em2", "em"}),
            *("resnet_capsnet_small", 120, -1),
        ),
    ],
)
def test_the_papers_grids(
    experiment: str, data_sets: set[str], routers: set[str], arch: str, epochs: int, steps: int
) -> None:
    runs = [run.identity for run in grid(f"experiment={experiment}")]
    assert len(runs) == len(data_sets) * len(routers) * 3
    assert {run.data for run in runs} == data_sets
    assert {run.router for run in runs} == routers
    assert {run.arch for run in runs} == {arch}
    assert {run.seed for run in runs} == {1, 2, 3}
    for run in runs:
        assert (run.settings["trainer"]["max_epochs"], run.settings["trainer"]["max_steps"]) == (epochs, steps)
        assert run.settings["data"]["batch_size"] == (64 if run.data == "small_norb" else 128)


def test_em_begins_in_a_cell_of_the_factorial_and_elsewhere() -> None:
    cell = grid("experiment=factorial", "router=em2", "loss=margin", "arch.weight_init=kernel", "arch.vote_gain=1.0")
    runs = [run.identity for run in grid("experiment=em_start")]
    as_it_is = {
        run.digest for run in runs if run.settings["router"]["beta_a"] == -1000 and not run.settings["router"]["beta_v"]
    }
    assert as_it_is == {run.identity.digest for run in cell}
    assert len({run.digest for run in runs}) == 4 * 3


def test_augmentation_is_each_sets_own() -> None:
    def augmentation(experiment: str) -> dict[str, tuple[int, bool]]:
        settings = {
            run.identity.data: run.identity.settings["data"]["augmentation"] for run in grid(f"experiment={experiment}")
        }
        return {name: (made["crop_padding"], made["flip"]) for name, made in settings.items()}

    assert set(augmentation("fig4").values()) == {(0, False)}
    assert augmentation("fig5") == {"svhn": (4, False), "fashion_mnist": (4, False), "cifar10": (4, True)}
    assert augmentation("table2") == {"svhn": (4, False), "fashion_mnist": (4, True), "cifar10": (4, True)}


def test_table_6_halves_its_rate_every_20_epochs() -> None:
    config = compose("experiment=table6").optim
    assert config.optimizer.lr == 0.01
    assert (config.scheduler.step_size, config.scheduler.gamma, config.scheduler_interval) == (20, 0.5, "epoch")


def test_the_command_line_goes_before_an_experiments_sweep() -> None:
    runs = grid("experiment=table2", "data=svhn", "seed=4")
    assert [(run.identity.data, run.identity.router, run.identity.seed) for run in runs] == [("svhn", "fm", 4)]


@pytest.mark.parametrize("name", ["dynamic1", "dynamic2", "em1", "em2"])
def test_routers_with_their_iterations(name: str) -> None:
    assert compose(f"router={name}").router.iterations == int(name[-1])


@pytest.mark.parametrize(
    ("name", "kind", "standardized"),
    [
        ("svhn", data.SVHN, True),
        ("fashion_mnist", data.FashionMNIST, True),
        ("cifar10", data.CIFAR10, True),
        ("mnist", data.MNIST, False),
        ("digits", data.Digits, False),
        ("affnist", data.AffNIST, False),
        ("multi_mnist", data.MultiMNIST, False),
        ("small_norb", data.SmallNORB, True),
    ],
)
def test_data_sets(name: str, kind: type[data.ImageDataModule], standardized: bool) -> None:
    made = instantiate(compose(f"data={name}", "seed=5").data)
    assert type(made) is kind
    assert (made.seed, made.standardized) == (5, standardized)
    assert made.augmentation in (None, data.Augmentation())
    assert (made.val_fraction, made.subset) == (0, None)


@pytest.mark.parametrize("experiment", ["fig5", "table2"])
@pytest.mark.parametrize("name", ["affnist", "multi_mnist", "small_norb"])
def test_sets_without_augmentation_refuse_it(experiment: str, name: str) -> None:
    settings = compose(f"experiment={experiment}", f"data={name}", "data.augmentation.flip=false").data
    with pytest.raises(InstantiationException, match=r"does not accept data\.augmentation: .*; leave it out"):
        instantiate(settings)


def test_every_choice_composes() -> None:
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    assert {"arch", "data", "experiment", "launcher", "logger", "router", "trainer"} <= set(groups)
    for group in groups:
        for path in Path(CONF, group).glob("[!_]*.yaml"):
            config = compose(f"{group}={path.stem}")
            assert group in ("experiment", "launcher", "system") or OmegaConf.select(config, group) is not None


@pytest.mark.parametrize(
    ("preset", "launcher"),
    [
        ("serial", "hydra._internal.core_plugins.basic_launcher.BasicLauncher"),
        ("local", "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"),
        ("ray", "hydra_plugins.capsbench_ray.StoppableRayLauncher"),
        ("slurm", "hydra_plugins.capsbench_slurm.FollowedSlurmLauncher"),
    ],
)
def test_launchers_leave_the_run_the_same(preset: str, launcher: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [f"launcher={preset}"], return_hydra_config=True)
    assert config.hydra.launcher._target_ == launcher
    choices = config.hydra.runtime.choices
    digest = Identity.of(OmegaConf.to_container(compose(f"launcher={preset}"), resolve=True), choices).digest
    assert digest == Identity.of(OmegaConf.to_container(compose(), resolve=True), choices).digest
