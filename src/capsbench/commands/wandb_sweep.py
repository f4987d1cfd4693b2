"""`capsbench wandb-sweep`: a grid as a sweep file of Weights & Biases, whose agents then train its runs."""

from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from capsbench.commands.arguments import Arguments
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.sweep import grid, plan
from capsbench.runs.checks import holds_out

HELD_OUT = "data.val_fraction"
ADDED = {"logger": "wandb", "logger.wandb.mode": "online", HELD_OUT: "0.1"}
"""What a run needs to be seen and judged there, unless the settings say otherwise."""


def main(arguments: Arguments) -> None:
    """Print the sweep file of the grid that the settings ask for.

    Raises:
        ValueError: no setting has several values, nothing is held out for validation, or a run is refused.
    """
    with open_configuration(arguments.config_dir) as loader:
        words = [*(f"{key}={value}" for key, value in ADDED.items() if not _names(arguments, key)), *arguments.settings]
        runs = plan(loader, words)
        overrides = {override.get_key_element(): override for override in grid(Composer(loader), words)}
    if not all(map(_held_out, runs)):
        raise ValueError(f"the objective is validation accuracy, so {HELD_OUT} must be above 0; leave it out for 0.1")
    swept = {key: override for key, override in overrides.items() if override.is_sweep_override()}
    if not swept:
        raise ValueError("no setting has several values, so there is nothing to sweep over; give some, as in seed=1,2")
    fixed = [str(override.input_line) for key, override in overrides.items() if key not in swept]
    own = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    logger = runs[0].loggers.get("wandb", {})
    sweep = {
        "name": runs[0].identity.experiment,
        **{key: logger[key] for key in ("project", "entity") if logger.get(key)},
        "program": "capsbench",
        "command": ["${program}", "train", *own, *fixed, "${args_no_hyphens}"],
        "method": "grid",
        "metric": {"name": "val/accuracy", "goal": "maximize"},
        "parameters": {key: {"values": _values(override)} for key, override in swept.items()},
    }
    print("# wandb sweep FILE registers it; wandb agent ENTITY/PROJECT/ID, on as many machines as you like, trains it")
    print(yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True, width=120), end="")


def _names(arguments: Arguments, key: str) -> bool:
    return any(word.lstrip("+").partition("=")[0] == key for word in arguments.settings)


def _held_out(run: Any) -> bool:
    return holds_out(run.identity.settings["data"])


def _values(override: Override) -> list[int | float | str]:
    """Its values: numbers, and what else there is as Hydra writes it."""
    words, values = override.sweep_string_iterator(), override.sweep_iterator()
    return [
        value if isinstance(value, int | float) and not isinstance(value, bool) else word
        for word, value in zip(words, values, strict=True)
    ]
