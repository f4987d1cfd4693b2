"""`capsbench data`: list data sets, get them, check them, look at them."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from capsbench.commands.arguments import Arguments
from capsbench.data.files import at_home
from capsbench.data.sources import SOURCES, Source
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.errors import choice_of, describe

if TYPE_CHECKING:
    from capsbench.data import ImageDataModule


def main(arguments: Arguments) -> None:
    """Do one action on the data sets that the settings name."""
    named = [word.removeprefix("data=") for word in arguments.settings if word.startswith("data=")]
    names = [name for part in named for name in part.split(",")]
    overrides = [word for word in arguments.settings if not word.startswith("data=")]
    with open_configuration(arguments.config_dir) as loader:
        known = [name for name in loader.get_group_options("data") if not name.startswith("_")]
        for name in names:
            if name not in known:
                raise ValueError(f"there is no data set {name}; {choice_of(name, known)}")
        composer = Composer(loader)
        configs = {name: composer.compose_unchecked([f"data={name}", *overrides]) for name in names or known}
    if arguments.action == "list":
        Console().print(_overview(configs))
        return
    if not names:
        if arguments.action != "check":
            raise ValueError(f"capsbench data {arguments.action} needs data=NAME; there are: {', '.join(known)}")
        configs = {name: config for name, config in configs.items() if _is_here(config)}
    run(str(arguments.action), configs)


def run(action: str, configs: Mapping[str, DictConfig]) -> None:
    """Fetch, check or show data sets; one that fails does not keep the others from it.

    Args:
        action: one of ACTIONS.
        configs: by the name of the set.

    Raises:
        DataError: a set could not be downloaded, or is damaged.
    """
    from capsbench.data import DataError  # late: it imports PyTorch

    failed = []
    for name, config in configs.items():
        try:
            data: ImageDataModule = instantiate(config.data)
            data.prepare_data()
            if action != "fetch":
                data.setup()
            print(f"{name}: {_act(action, name, data)}")
        except Exception as error:
            failed.append(name)
            print(f"{name}: {describe(error)}", file=sys.stderr)
    if failed:
        raise DataError(f"{action} failed for {', '.join(failed)}")


def _act(action: str, name: str, data: "ImageDataModule") -> str:
    if action == "fetch":
        return "here"
    if action == "check":
        counts = f"{data.num_examples('train'):,} to train, {data.num_examples('test'):,} to test"
        return "\n  ".join([f"complete, {counts}", *data.remarks()])
    from capsbench.analysis.sheets import write_contact_sheet

    path = Path("outputs", "data", f"{name}.png")
    write_contact_sheet(data, path)
    return str(path)


def _is_here(config: DictConfig) -> bool:
    """Tell whether a set can be used without a download; False of one that is incomplete."""
    if OmegaConf.missing_keys(config.data):
        return False
    name = config.data._target_.rpartition(".")[2]
    if name in SOURCES:
        source = SOURCES[name]
        if config.data.get("test_source") == "generated":
            source = replace(source, files=source.files[:1])
        return source.is_here(at_home(config.data_dir))
    return (at_home(config.data.get("data_dir", "")) / at_home(config.data.path)).exists()


def _overview(configs: Mapping[str, DictConfig]) -> Table:
    table = Table(title="Data sets")
    for column in ("Name", "Here", "Download MB", "Licence", "Source"):
        table.add_column(column, overflow="fold", justify="right" if column.endswith("MB") else "left")
    for name, config in configs.items():
        source = SOURCES.get(config.data._target_.rpartition(".")[2], Source("yours", "–"))
        here = "yours" if OmegaConf.missing_keys(config.data) else "yes" if _is_here(config) else "no"
        size = f"{source.download_mb:.0f}" if source.files else "–"
        table.add_row(name, here, size, source.licence, source.origin)
    return table
