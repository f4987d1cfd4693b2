"""Keras's Adam against its formula, and which parameters decay."""

import copy
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import CONF
from capsbench.training import ClassificationModule, CrossEntropyLoss, KerasAdam, MarginLoss

SIZES = torch.logspace(-8, 0, 9, dtype=torch.float64)


def gradients(step: int) -> torch.Tensor:
    """Of nine parameters, from 1e-8 to 1, with other signs and sizes in each step."""
    return SIZES * torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


def keras(start: torch.Tensor, steps: int, lr: float, decay: float, eps: float) -> torch.Tensor:
    """Parameters after some steps of Adam, as Keras computes it."""
    weights, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for t in range(1, steps + 1):
        gradient = gradients(t) + decay * weights
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = lr * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        weights = weights - rate * m / (v.sqrt() + eps)
    return weights


def take_steps(optimizer: torch.optim.Optimizer, weights: nn.Parameter, steps: range) -> None:
    for step in steps:
        weights.grad = gradients(step)
        optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_kerass_adam_by_its_formula(fused: bool, decay: float) -> None:
    start = torch.linspace(-1, 1, 9, dtype=torch.float64)
    weights = nn.Parameter(start.clone())
    take_steps(KerasAdam([weights], lr=0.01, weight_decay=decay, fused=fused), weights, range(1, 21))
    torch.testing.assert_close(weights.data, keras(start, 20, 0.01, decay, 1e-7), rtol=0, atol=1e-14)


def test_pytorchs_adam_is_another() -> None:
    start = torch.zeros(9, dtype=torch.float64)
    weights = nn.Parameter(start.clone())
    take_steps(torch.optim.Adam([weights], lr=0.01, eps=1e-7), weights, range(1, 21))
    assert (weights.data - keras(start, 20, 0.01, 0.0, 1e-7)).abs().max() > 1e-3


def test_kerass_adam_goes_on_from_a_saved_state() -> None:
    start = torch.zeros(9, dtype=torch.float64)
    weights = nn.Parameter(start.clone())
    optimizer = KerasAdam([weights], lr=0.01)
    take_steps(optimizer, weights, range(1, 8))
    resumed = KerasAdam([weights], lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take_steps(resumed, weights, range(8, 21))
    torch.testing.assert_close(weights.data, keras(start, 20, 0.01, 0.0, 1e-7), rtol=0, atol=1e-14)


def make_module(*overrides: str) -> ClassificationModule:
    """A small network of the configuration, all of whose parameters are 1 and have gradients of 0."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", ["data=multi_mnist", *overrides])
    module = build_module(config, build_data(config))
    for parameter in module.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    return module


def shrunken(module: ClassificationModule) -> set[str]:
    """Names of the parameters that one step of the module's optimizer changes."""
    made: Any = module.configure_optimizers()
    (made["optimizer"] if isinstance(made, dict) else made).step()
    return {name for name, parameter in module.named_parameters() if not (parameter == 1).all()}


ARCHITECTURES = {
    "capsnet": ["arch=capsnet_light", "arch.filters=16", "arch.groups=2"],
    "resnet": ["arch=resnet_capsnet_small", "arch.hidden_capsules=[4]", "arch.vote_norm=per_vote"],
}


@pytest.mark.parametrize("optimizer", ["adam", "adam_keras", "sgd"])
@pytest.mark.parametrize("decoder", ["none", "deconv", "dense"])
@pytest.mark.parametrize("router", ["fm", "dynamic", "em"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_which_parameters_decay(arch: str, router: str, decoder: str, optimizer: str) -> None:
    decay = f"optim={optimizer}", "optim.optimizer.weight_decay=0.1", "loss=cross_entropy_learned"
    choices = *ARCHITECTURES[arch], f"router={router}", f"decoder={decoder}", *decay
    module = make_module(*choices, "optim.decay=kernels")
    # The kernels of our networks are those with four axes: (out, in, height, width), (child, parent, row, column).
    kernels = {name for name, parameter in module.named_parameters() if parameter.ndim == 4}
    assert shrunken(module) == kernels
    module = make_module(*choices)
    assert shrunken(module) == {name for name, _ in module.named_parameters()} - {"loss.scale"}


def test_every_parameter_is_trained_once() -> None:
    module = make_module("decoder=deconv", "optim.decay=kernels", "loss=cross_entropy_learned")
    made: Any = module.configure_optimizers()
    trained = [parameter for group in made.param_groups for parameter in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == set(module.parameters())


def test_a_learned_scale_is_no_parameter_of_the_network() -> None:
    assert make_module("loss=cross_entropy_learned").num_parameters == make_module("loss=margin").num_parameters


def test_other_decays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"optim\.decay must be all or kernels, got 'weights'"):
        ClassificationModule(nn.Linear(1, 1), MarginLoss(), torch.optim.SGD, num_classes=1, decay="weights")


def test_a_choice_of_loss_is_named_for_what_it_is() -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        shares, learned = (
            instantiate(hydra.compose("train", [f"loss=cross_entropy_{name}"]).loss) for name in ("shares", "learned")
        )
    assert isinstance(shares, CrossEntropyLoss)
    assert (shares.normalize, shares.scale) == (True, 1.0)
    assert isinstance(learned.scale, nn.Parameter)


def test_the_exponential_schedule_halves_in_20000_steps() -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", ["optim=sgd_exponential"]).optim
    assert config.scheduler_interval == "step"
    optimizer = instantiate(config.optimizer)([nn.Parameter(torch.zeros(1))])
    scheduler = instantiate(config.scheduler)(optimizer)
    assert scheduler.gamma**20_000 == pytest.approx(0.5, rel=1e-12)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.01, 0.9)
