"""Numbers that have a range: refused when a run is planned, and by the class as well."""

import pytest

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.ranges import OF_CLASSES, OF_PARTS

CHOICES = {
    "AffNIST": "data=affnist data.test_source=generated",
    "MultiMNIST": "data=multi_mnist",
    "SmallNORB": "data=small_norb",
    "Arrays": "data=arrays data.path=x.npz",
    "ImageFolder": "data=image_folder data.path=x",
    "Augmentation": "data=mnist",
    "CapsNet": "arch=capsnet_light",
    "ResNetCapsNet": "arch=resnet_capsnet_small",
    "DeepCaps": "arch=deepcaps",
    "EfficientCapsNet": "arch=efficient_capsnet",
    "MatrixCapsNet": "arch=matrix_capsnet_small",
    "ResNet": "arch=resnet router=none",
    "HitOrMiss": "router=hit_or_miss",
    "InvertedAttention": "router=inverted_attention",
    "VBRouting": "router=vb",
    "CentripetalLoss": "loss=centripetal",
    "FMAgreement": "router=fm",
    "DynamicRouting": "router=dynamic",
    "EMRouting": "router=em",
    "DeconvDecoder": "decoder=deconv",
    "DeepCapsDecoder": "decoder=deepcaps",
    "DenseDecoder": "decoder=dense",
    "CrossEntropyLoss": "loss=cross_entropy",
    "SpreadLoss": "loss=spread loss.schedule=sigmoid",
    "Adam": "optim=adam",
    "KerasAdam": "optim=adam_keras",
    "SGD": "optim=sgd",
    "CosineAnnealingLR": "optim=adam_cosine",
    "StepLR": "optim=sgd_halving",
    "data": "data=mnist",
    "decoder": "decoder=deconv",
}
INSIDE = {"Augmentation": "augmentation", "SGD": "optimizer", "Adam": "optimizer", "KerasAdam": "optimizer"}
INSIDE |= {
    "CosineAnnealingLR": "scheduler",
    "StepLR": "scheduler",
    "DeconvDecoder": "network",
    "DeepCapsDecoder": "network",
    "DenseDecoder": "network",
}
LISTS = {
    "blocks": "[1,1,{}]",
    "hidden_capsules": "[{}]",
    "hidden_types": "[16,{}]",
    "hidden": "[{}]",
    "betas": "[0.9,{}]",
    "value_range": "[0,{}]",
    "class_weights": "[1,{}]",
}
SETTINGS = [
    pytest.param(name, key, allowed.words, id=f"{name}.{key}")
    for name, settings in {**OF_CLASSES, **OF_PARTS}.items()
    for key, allowed in settings.items()
]
FINITE = ("beta_a", "beta_v", "value_range")


def overrides(name: str, key: str) -> list[str]:
    """A number that is out of the range."""
    choices = CHOICES[name].split()
    part = ".".join(filter(None, (choices[0].partition("=")[0], INSIDE.get(name), key)))
    return [*choices, f"{part}={LISTS.get(key, '{}').format('inf' if key in FINITE else -1)}"]


@pytest.fixture(scope="module")
def composer() -> Composer:
    with open_configuration() as loader:
        return Composer(loader)


@pytest.mark.parametrize(("name", "key", "words"), SETTINGS)
def test_a_number_out_of_its_range_is_refused_when_a_run_is_planned(
    composer: Composer, name: str, key: str, words: str
) -> None:
    with pytest.raises(ValueError, match=rf"\.{key} must be {words}, got "):
        composer.compose(overrides(name, key))


OURS_ALONE = ("batch_norm_momentum", "T_max", "step_size")
"""PyTorch takes any number for these."""


@pytest.mark.parametrize(("name", "key", "words"), [case for case in SETTINGS if case.values[1] not in OURS_ALONE])
def test_the_class_refuses_it_too(composer: Composer, name: str, key: str, words: str) -> None:
    config = composer.compose_unchecked(overrides(name, key))
    with pytest.raises(Exception, match=r"."):  # some in PyTorch's words
        build_module(config, build_data(config)).configure_optimizers()
