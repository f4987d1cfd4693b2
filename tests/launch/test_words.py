"""Words that a setting may be: refused when a run is planned, and the same ones as in the classes."""

from typing import get_args

import pytest
import wandb

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.words import OF_CLASSES, OF_PARTS

CHOICES = {
    "CapsNet": "arch=capsnet_light",
    "ResNetCapsNet": "arch=resnet_capsnet_small",
    "DeepCaps": "arch=deepcaps",
    "EfficientCapsNet": "arch=efficient_capsnet",
    "MatrixCapsNet": "arch=matrix_capsnet_small",
    "ResNet": "arch=resnet router=none",
    "AttentionRouting": "router=attention",
    "HitOrMiss": "router=hit_or_miss",
    "InvertedAttention": "router=inverted_attention",
    "VBRouting": "router=vb",
    "FMAgreement": "router=fm",
    "DynamicRouting": "router=dynamic",
    "EMRouting": "router=em",
    "DeconvDecoder": "decoder=deconv",
    "DeepCapsDecoder": "decoder=deepcaps",
    "DenseDecoder": "decoder=dense",
    "MarginLoss": "loss=margin",
    "SpreadLoss": "loss=spread",
    "AffNIST": "data=affnist",
    "MultiMNIST": "data=multi_mnist",
    "Arrays": "data=arrays data.path=x.npz",
    "ImageFolder": "data=image_folder data.path=x",
    "SmallNORB": "data=small_norb",
    "data": "data=mnist",
    "optim": "optim=sgd",
    "EarlyStopping": "callbacks=early_stopping data.val_fraction=0.1",
    "ModelCheckpoint": "callbacks=best_checkpoint data.val_fraction=0.1",
    "LearningRateMonitor": "callbacks=lr_monitor",
    "WandbLogger": "logger=wandb",
}
SETTINGS = [
    pytest.param(CHOICES[name], key, words, id=f"{name}.{key}")
    for name, settings in {**OF_CLASSES, **OF_PARTS}.items()
    for key, words in settings.items()
]


OTHERS = ("callbacks", "logger")
"""Classes of libraries, which have their own words for it."""


def overrides(choice: str, key: str, word: str) -> list[str]:
    part, name = choice.split()[0].split("=")
    inner = {"decoder": "network", "logger": "wandb", "callbacks": name}
    part = ".".join(filter(None, (part, inner.get(part))))
    return [*choice.split(), f"{part}.{key}={word}"]


@pytest.mark.parametrize(("choice", "key", "words"), SETTINGS)
def test_another_word_is_refused_when_a_run_is_planned(choice: str, key: str, words: tuple[str, ...]) -> None:
    with open_configuration() as loader:
        composer = Composer(loader)
        with pytest.raises(ValueError, match=rf"{key} must be {' or '.join(words)}, got 'odd'"):
            composer.compose(overrides(choice, key, "odd"))


@pytest.mark.parametrize(
    ("choice", "key", "words"), [each for each in SETTINGS if each.values[0].split("=")[0] not in OTHERS]
)
def test_the_class_knows_the_same_words(choice: str, key: str, words: tuple[str, ...]) -> None:
    with open_configuration() as loader:
        config = Composer(loader).compose_unchecked(overrides(choice, key, "odd"))
    with pytest.raises(Exception, match=r"(must be|Expected type).*") as refused:
        build_module(config, build_data(config))
    assert all(word in str(refused.value) for word in words)


def test_wandb_knows_the_same_modes() -> None:
    modes = get_args(wandb.Settings.model_fields["mode"].annotation)
    assert set(OF_CLASSES["WandbLogger"]["mode"]) == set(modes)
