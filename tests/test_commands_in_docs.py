"""Every printed command is planned here without running it; above a published table it asks for its runs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal.utils import get_args_parser
from safetensors.torch import save_file

from capsbench.commands.arguments import parse_settings, read
from capsbench.commands.settings import COMMANDS
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.sweep import PlannedRun, plan
from capsbench.reports.comparison import roots_of
from capsbench.runs import Result
from capsbench.runs.identity import changes

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "outputs" / "published"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))

FENCED = re.compile(r"^```(?:\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
COMMAND = re.compile(r"(?<![-\w./])(?:\.venv/bin/)?capsbench +([^#&|;>)\"\n]+)")
TABLE = re.compile(r"<!-- table: (\w+) -->")


def commands(text: str) -> list[list[str]]:
    """The arguments of each `capsbench …` of a page, in code blocks and in inline code."""
    blocks = [block.replace("\\\n", " ") for block in FENCED.findall(text)]
    inline = [" ".join(code.split()) for code in INLINE.findall(FENCED.sub("", text))]
    return [found.split() for code in (*blocks, *inline) for found in COMMAND.findall(code)]


def planned(name: str, *words: str) -> list[PlannedRun]:
    """Read a command as `capsbench` does; the runs that it asks for, if it trains."""
    if name == "train":
        flags = get_args_parser().parse_args(words)
        overrides, config_dir, sweep = flags.overrides, flags.config_dir, flags.multirun
        if flags.shell_completion:
            return []
    else:
        arguments = read(name, COMMANDS[name], words)
        overrides, config_dir, sweep = arguments.settings, arguments.config_dir, True
        kind = COMMANDS[name].settings
        of_data = [word for word in overrides if name == "evaluate" and re.match(r"data[.=]", word)]
        if kind is not None:
            parse_settings(kind, [word for word in overrides if word not in of_data])
            return planned("train", *of_data) if of_data else []
    with open_configuration(config_dir) as loader:
        return plan(loader, overrides) if sweep else [PlannedRun.of(Composer(loader).compose(overrides), overrides)]


def write_files(text: str, folder: Path) -> None:
    """Write the files that a page shows: code blocks that begin with a comment of their path."""
    for block in FENCED.findall(text):
        first = re.match(r"# ([\w/]+\.(?:py|yaml))\n", block)
        if first is not None:
            path = folder / first[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)


SLOW = {"results.md", "running.md", "clusters.md"}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.engines] if page.name in SLOW else []) for page in PAGES],
    ids=lambda page: page.name,
)
def test_a_printed_command_can_be_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text()
    write_files(text, tmp_path)
    (tmp_path / "RUN").mkdir()
    save_file({"weight": torch.ones(1)}, tmp_path / "RUN" / "model.safetensors")  # for init_from=RUN
    monkeypatch.chdir(tmp_path)
    for words in commands(text):
        if words[0] in COMMANDS:
            planned(*words)
        else:
            assert words[0] in ("--version", "--help", "COMMAND")


def tables() -> list[tuple[Path, str, str]]:
    """Each table of published runs: its page, its experiment, and the text between it and the heading above it."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for table in TABLE.finditer(text):
            section = re.split(r"^#+ |^<!-- end -->", text[: table.start()], flags=re.MULTILINE)[-1]
            found.append((page, table[1], section))
    return found


@pytest.mark.parametrize(("page", "experiment", "section"), tables(), ids=lambda value: getattr(value, "name", None))
def test_the_commands_above_a_table_ask_for_its_settings(page: Path, experiment: str, section: str) -> None:
    runs = [run.identity for words in commands(section) if words[0] == "train" for run in planned(*words)]
    both = roots_of(PUBLISHED / experiment)  # the paper's protocol and its authors'
    published = [Result.load(path.parent) for root in both for path in root.rglob("result.json")]
    assert {_told(run.settings) for run in runs} == {_told(result.settings) for result in published}
    names = {result.experiment for result in published}
    assert {run.experiment for run in runs} == names <= {root.name for root in both}


def _told(settings: Mapping[str, Any]) -> str:
    told = {key: value for key, value in settings.items() if key != "devices"}  # this machine may have others
    return json.dumps(changes(told), sort_keys=True)


def test_commands_are_found() -> None:
    text = "Run `capsbench data\nlist`:\n\n```sh\nA=1 .venv/bin/capsbench train -m \\\n  seed=1  # why\nmake x\n```\n"
    assert commands(text) == [["train", "-m", "seed=1"], ["data", "list"]]
    assert commands('```sh\neval "$(capsbench train --cfg job)"\nimport capsbench.api\n```') == [
        ["train", "--cfg", "job"]
    ]
