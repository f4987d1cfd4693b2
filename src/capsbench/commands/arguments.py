"""One grammar for all commands: ACTION, then settings as name=value, then switches as --name."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf
from omegaconf.errors import ValidationError

from capsbench.launch.errors import ExitCode, choice_of, fail

CONFIG_DIR = "a directory with choices of your own: DIR/router/mine.yaml makes router=mine"
KINDS = {str(bool): "true or false", str(int): "a whole number", str(float): "a number"}
KINDS |= {str(int | None): "a whole number or null", str(list[str]): "a list such as [a,b]"}

PATHS = ("output_dir", "data_dir", "data.data_dir", "data.path", "init_from")
"""Settings of capsbench train that are paths."""

Settings = TypeVar("Settings")


def usage_error(command: str, message: str) -> NoReturn:
    """End the process with one line on stderr and `ExitCode.USAGE`.

    Raises:
        CommandError: always.
    """
    fail(f"{message}; capsbench {command} --help shows what there is", ExitCode.USAGE)


@dataclass(frozen=True)
class Arguments:
    """What a command line says.

    Attributes:
        action: the word after the command; None where the command has no actions.
        settings: words such as "experiment=table3".
        switches: the names of those given.
        config_dir: a user's own directory of choices.
    """

    action: str | None
    settings: list[str]
    switches: frozenset[str]
    config_dir: str | None


@dataclass(frozen=True)
class Command:
    """What a subcommand is given.

    Attributes:
        summary: what it does, in one line.
        description: more of it, with examples.
        actions: what each word after the command does.
        switches: what each --name does.
        settings: a dataclass of the command's own settings, made of `setting`; None: those of capsbench train.
    """

    summary: str
    description: str = ""
    actions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: type | None = None


def read(name: str, command: Command, words: Sequence[str]) -> Arguments:
    """Read the arguments of a command; --help shows what it is given.

    Args:
        name: of the command.
        command: what it is given.
        words: what follows its name.

    Raises:
        SystemExit: wrong usage, or --help.
    """
    start = f"{command.summary[0].upper()}{command.summary[1:]}."
    parts = [start, command.description, _table("Actions", command.actions), _settings_help(command.settings)]
    parser = argparse.ArgumentParser(
        prog=f"capsbench {name}",
        usage=f"capsbench {name} {'ACTION ' if command.actions else ''}[SETTING=VALUE …] [--SWITCH …]",
        description="\n\n".join(part for part in parts if part),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = partial(usage_error, name)  # type: ignore[method-assign]
    if command.actions:
        parser.add_argument("action", metavar="ACTION", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE", help=argparse.SUPPRESS)
    parser.add_argument("--config-dir", metavar="DIR", help=CONFIG_DIR)
    for switch, what in command.switches.items():
        parser.add_argument(f"--{switch}", action="store_true", help=what)
    found = parser.parse_intermixed_args(words)
    action = found.action if command.actions else None
    if action is not None and action not in command.actions:
        parser.error(f"there is no capsbench {name} {action}; {choice_of(action, command.actions)}")
    for word in found.settings:
        if "=" not in word:
            parser.error(f"settings are given as name=value, got {word}")
    settings = found.settings if command.settings else quoted(found.settings)
    given = frozenset(switch for switch in command.switches if getattr(found, switch.replace("-", "_")))
    return Arguments(action, settings, given, found.config_dir)


def quoted(words: Sequence[str]) -> list[str]:
    """Quote paths for Hydra's grammar, which else knows few characters; ~ is the home folder.

    Quoted words, `${…}` and the several paths of a sweep stay as they are.

    >>> quoted(["output_dir=it's #1 (ü)", "data.path='a b'", "data.path=a,b", "router=fm"])
    ["output_dir='it\\\\'s #1 (ü)'", "data.path='a b'", 'data.path=a,b', 'router=fm']
    """
    return [_quoted(*word.partition("=")) for word in words]


def _quoted(key: str, equals: str, value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if key.lstrip("+") not in PATHS or value in ("", "null") or is_quoted or "," in value or "${" in value:
        return key + equals + value
    return key + equals + QuotedString(os.path.expanduser(value), Quote.single).with_quotes()


def import_beside(config_dir: str | None) -> None:
    """Let modules beside a user's directory of choices be imported, after all others: `_target_: mine.MeanRouting`.

    Args:
        config_dir: as in --config-dir of this very command.
    """
    if config_dir is not None and (beside := str(Path(config_dir).absolute().parent)) not in sys.path:
        sys.path.append(beside)


def parse_settings(kind: type[Settings], words: Sequence[str]) -> Settings:
    """The settings of a command, those not given at their defaults.

    Args:
        kind: a dataclass made of `setting`.
        words: such as "repetitions=9".

    Raises:
        ValueError: a setting is of another type than its default.
        OmegaConfBaseException: there is no such setting.
    """
    types = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    texts, others = {}, []
    for word in words:
        key, _, value = word.partition("=")
        if not value:
            raise ValueError(f"{key} must not be empty; leave it out to have its default")
        if types.get(key) in (str, str | None) or (types.get(key) == Any and not value.startswith("[")):
            texts[key] = None if value == "null" else os.path.expanduser(value)
        else:
            others.append(word)
    try:
        made: Any = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(kind), OmegaConf.from_dotlist(others), OmegaConf.create(texts))
        )
    except yaml.YAMLError as error:
        raise ValueError(f"cannot read {' '.join(others)}: a list is [a,b], and a special name in it 'a b'") from error
    except ValidationError as error:
        key = str(error.full_key)
        wanted = types[key]
        given = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
        raise ValueError(f"{key} must be {KINDS.get(str(wanted), wanted)}, got {given[-1]}") from error
    return made


def setting(default: Any, what: str) -> Any:
    """A field of a dataclass of settings, with the text that --help shows."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata={"help": what})
    return dataclasses.field(default=default, metadata={"help": what})


def _settings_help(settings: type | None) -> str:
    if settings is None:
        return "Settings are those of capsbench train, which capsbench train --help lists."
    defaults = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(defaults, dict)
    shown = {}
    for field in dataclasses.fields(settings):
        default = defaults[field.name]
        text = "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        shown[f"{field.name}={text}"] = field.metadata["help"]
    return _table("Settings", shown)


def _table(title: str, rows: Mapping[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join([f"{title}:", *(f"  {name:{width}}  {what}" for name, what in rows.items())]) if rows else ""
