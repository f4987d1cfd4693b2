"""Where runs are logged is settled where the command is given, also for workers with another environment."""

from pathlib import Path

import pytest

from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.wandb import as_words, settle

SET = {"MODE": "disabled", "PROJECT": "it's (x), a=b", "ENTITY": "team", "DIR": "/a b/c"}


def test_workers_elsewhere_log_as_the_environment_of_the_command_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with open_configuration() as loader:
        asked = Composer(loader).compose(["logger=wandb", "logger.wandb.entity=me"]).resolved["logger"]
        assert {key: asked["wandb"][key] for key in ("mode", "project", "entity", "save_dir")} == {
            "mode": "disabled",
            "project": "it's (x), a=b",
            "entity": "me",
            "save_dir": "/a b/c",
        }
        (here,), (elsewhere,) = (settle([(asked, Path("x"))], elsewhere=flag) for flag in (False, True))
        assert here == {}
        for name in SET:
            monkeypatch.delenv(f"WANDB_{name}")
        assert Composer(loader).compose(["logger=wandb", *as_words(elsewhere)]).resolved["logger"] == asked
