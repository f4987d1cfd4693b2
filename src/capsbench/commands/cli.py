"""The command `capsbench`: reads the command line and hands over to the subcommand."""

import importlib
import os
import re
import sys

from capsbench import __version__
from capsbench.commands.arguments import import_beside, read
from capsbench.commands.settings import COMMANDS
from capsbench.launch.errors import ExitCode, choice_of, fail, one_line
from capsbench.launch.output import lost_output, unbreakable_output
from capsbench.launch.threads import let_threads_sleep
from capsbench.signals import heeded

USAGE = f"""usage: capsbench COMMAND [ACTION] [SETTING=VALUE …] [--SWITCH …]

{chr(10).join(f"  {name:11} {command.summary}" for name, command in COMMANDS.items())}

capsbench COMMAND --help shows a command's settings; capsbench --version shows the version.
Exit codes: 0 done, 1 an error or a failed run, 2 wrong usage or settings, 128 + N stopped by signal N.
"""
HOME = re.compile(r"(?<=[=\[,'\"])~(?=[/,\]'\"]|$)")
"""Where a value begins."""


@heeded()
def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand; a signal ends it with a line.

    Args:
        arguments: without the program's name; None: those of this process.

    Raises:
        SystemExit: the command failed, with an `ExitCode`, or a signal ended it, with 128 + its number.
    """
    let_threads_sleep()
    with unbreakable_output():
        _main(sys.argv[1:] if arguments is None else list(arguments))


def _main(words: list[str]) -> None:
    command, *rest = words or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE, end="")
    elif command == "--version":
        print(f"capsbench {__version__}")
    elif command in ("-sc", "--shell-completion"):
        _complete(words)
    elif command not in COMMANDS:
        fail(f"there is no command {command}; {choice_of(command, COMMANDS)}", ExitCode.USAGE)
    else:
        _run(command, rest)


def _run(name: str, words: list[str]) -> None:
    with one_line():
        words = [_at_home(word) for word in words]
        arguments = None if name == "train" else read(name, COMMANDS[name], words)  # Hydra reads those of train
        if arguments is not None:
            import_beside(arguments.config_dir)
        command = importlib.import_module(f"capsbench.commands.{name.replace('-', '_')}")  # late: help needs no PyTorch
        command.main(words if arguments is None else arguments)
        if name != "train" and (cause := lost_output()):  # of train, files hold what counts
            fail(f"not all could be printed: {cause}")


def _at_home(word: str) -> str:
    """A setting with paths in the home folder where the shell left the ~, as in "run=[~/a,~/b]"."""
    return HOME.sub(lambda _: os.path.expanduser("~"), word)


def _complete(arguments: list[str]) -> None:
    """Complete the line in COMP_LINE: the subcommand, or what Hydra knows of its settings."""
    program, *words = os.environ.get("COMP_LINE", "capsbench train ").split(" ")
    if len(words) < 2:
        print(" ".join(COMMANDS))
    elif words[0] == "train":
        os.environ["COMP_LINE"] = " ".join([program, *words[1:]])
        _run("train", arguments)
