"""`capsbench data`: what data sets there are; get them, check them, look at them."""

import argparse
import sys
from pathlib import Path

import hydra
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from capsbench.analysis.sheets import write_contact_sheet
from capsbench.data import DataError, ImageDataModule
from capsbench.launch.config import CONF
from capsbench.launch.errors import describe, one_line

ACTIONS = {
    "list": "what there is, what is here, size, licence, source",
    "fetch": "download NAME… (whole and checked, or not at all)",
    "check": "read NAME… (all that are here, if none is named) and compare with the known digests",
    "show": "write outputs/data/NAME.png: samples as stored and as the network sees them",
}


def main() -> None:
    """Run the command; an error is one line."""
    parser = argparse.ArgumentParser(
        prog="capsbench data",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:6} {what}" for name, what in ACTIONS.items())
        + "\n\nSettings are given as to capsbench train: capsbench data show affnist data.test_source=generated",
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("names", nargs="*", metavar="NAME or SETTING")
    arguments = parser.parse_args()
    overrides = [word for word in arguments.names if "=" in word]
    names = [word for word in arguments.names if "=" not in word]
    with one_line():
        run(arguments.action, names, overrides)


def run(action: str, names: list[str], overrides: list[str]) -> None:
    """Do one of ACTIONS.

    Raises:
        ValueError: there is no data set of a name, or none is named where one is needed.
        DataError: a set could not be had or is damaged.
    """
    known = sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml"))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no data set {name}; there are: {', '.join(known)}")
    console = Console()
    if action == "list":
        console.print(_overview(names or known, overrides))
        return
    if not names:
        if action != "check":
            raise ValueError(f"capsbench data {action} needs a name; there are: {', '.join(known)}")
        names = [name for name in known if _is_here(_config(name, overrides))]
    failed = []
    for name in names:
        try:
            data: ImageDataModule = instantiate(_config(name, overrides).data)
            data.prepare_data()
            if action != "fetch":
                data.setup()
            if action == "show":
                path = Path("outputs", "data", f"{name}.png")
                write_contact_sheet(data, path)
                console.print(f"{name}: {path}", soft_wrap=True)
            elif action == "check":
                counts = f"{data.num_examples('train'):,} to train, {data.num_examples('test'):,} to test"
                console.print(f"{name}: whole, {counts}", soft_wrap=True)
            else:
                console.print(f"{name}: here", soft_wrap=True)
        except Exception as error:
            failed.append(name)
            print(f"{name}: {describe(error)}", file=sys.stderr)
    if failed:
        raise DataError(f"{action} failed for {', '.join(failed)}")


def _config(name: str, overrides: list[str]) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", [f"data={name}", *overrides])


def _is_here(config: DictConfig) -> bool:
    if OmegaConf.missing_keys(config.data):
        return False
    try:
        data: ImageDataModule = instantiate(config.data)
    except InstantiationException:
        return False
    return data.is_here()


def _kind(config: DictConfig) -> type[ImageDataModule]:
    kind: type[ImageDataModule] = get_class(config.data._target_)
    return kind


def _overview(names: list[str], overrides: list[str]) -> Table:
    table = Table(title="Data sets")
    for column in ("Name", "Here", "Download MB", "Licence", "Source"):
        table.add_column(column, overflow="fold", justify="right" if column.endswith("MB") else "left")
    for name in names:
        config = _config(name, overrides)
        kind = _kind(config)
        size = sum(file.download_mb for files in kind.file_sets for file in files.files)
        own = bool(OmegaConf.missing_keys(config.data))
        here = "yours" if own else "yes" if _is_here(config) else "no"
        table.add_row(name, here, f"{size:.0f}" if size else "–", kind.licence, kind.origin)
    return table
