"""The library speaks Python, the command its own words for the same."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.wording import translated
from capsbench.models import CapsNet, MatrixCapsNet, ResNetCapsNet
from capsbench.routing import EMRouting, FMAgreement

PARTS = {
    "router": {"implementation": "auto", "iterations": 3, "output": "sum"},
    "arch": {"iterations": 3, "padding": "valid", "vote_gain": None},
    "decoder.network": {"_target_": "capsbench.capsules.DenseDecoder"},
}


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ('take implementation="plain"', "take router.implementation=plain"),
        ("iterations must be at least 1, got 0", "router.iterations must be at least 1, got 0"),
        ("vote_gain has no effect with padding=None", "arch.vote_gain has no effect with arch.padding=null"),
        ("images must be square; use ResNetCapsNet", "images must be square; use arch=resnet_capsnet"),
        (
            "hidden must be positive; set init=None",
            "decoder.network.hidden must be positive; set decoder.network.init=null",
        ),
        ("CapsNet needs EMRouting, or DenseDecoder", "CapsNet needs router=em, or decoder=dense"),
        ("got no_router; set router=no_router", "got router=none; set router=none"),
        ("iterations follows from the place", "router.iterations follows from the place"),
        ("router.iterations must be odd", "router.iterations must be odd"),
        ("Loudest has no fused implementation", "Loudest has no fused implementation"),
    ],
)
def test_settings_and_choices_are_named_as_the_command_does(python: str, command: str) -> None:
    assert translated(python, PARTS) == command


@pytest.mark.parametrize(
    ("make", "settings", "said", "asked"),
    [
        (
            lambda: CapsNet((1, 8, 8), 10, FMAgreement),
            "arch=capsnet data.crop=12",
            'use larger images, padding="same" or ResNetCapsNet',
            "use larger images, arch.padding=same or arch=resnet_capsnet",
        ),
        (
            lambda: MatrixCapsNet((1, 28, 28), 10, FMAgreement, primary_logit=1.0),
            "arch=matrix_capsnet_small arch.primary_logit=1.0",
            "primary_logit has no effect with FMAgreement; leave it out",
            "arch.primary_logit has no effect with router=fm; leave it out",
        ),
        (
            lambda: MatrixCapsNet((1, 28, 28), 10, partial(EMRouting, implementation="fused")),
            "arch=matrix_capsnet_small router=em router.implementation=fused",
            'competition="all" stores all votes; take implementation="auto"',
            "arch.competition=all stores all votes; take router.implementation=auto",
        ),
        (
            lambda: ResNetCapsNet((1, 8, 8), 10, FMAgreement, pose_dim=15),
            "arch.pose_dim=15",
            "pose_dim must be a square number",
            "arch.pose_dim must be a square number",
        ),
    ],
)
def test_one_message_in_two_languages(make: Callable[[], Any], settings: str, said: str, asked: str) -> None:
    with pytest.raises(ValueError, match=r".") as in_python:
        make()
    with open_configuration() as loader:
        config = Composer(loader).compose(["data=digits", *settings.split()]).config
    with pytest.raises(ValueError, match=r".") as in_command:
        build_module(config, build_data(config))
    assert said in str(in_python.value)
    assert asked in str(in_command.value)
