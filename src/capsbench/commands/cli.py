"""The command `capsbench`: hands over to the Hydra app of each subcommand."""

import importlib
import os
import sys

from capsbench.launch.threads import let_threads_sleep

COMMANDS = {
    "train": "train a capsule network, or with -m a sweep of them",
    "status": "how far a sweep is: which runs are done, running, interrupted, failed, missing",
    "report": "compare the finished runs of an experiment",
    "analyze": "pictures, equivariance and invariance of trained runs",
    "data": "list, fetch, check and show data sets",
    "dashboard": "compare runs on Weights & Biases: a workspace and a report",
    "benchmark": "measure how fast things are",
}
USAGE = "usage: capsbench COMMAND [OVERRIDES]\n\n" + "\n".join(f"  {name:9} {what}" for name, what in COMMANDS.items())


def main() -> None:
    """Run a subcommand."""
    let_threads_sleep()
    arguments = sys.argv[1:]
    if arguments[:1] == ["-sc"] or arguments[:1] == ["--shell-completion"]:
        command = _completed_command()
    elif not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE + "\n\ncapsbench COMMAND --help tells more.")
        return
    else:
        command = arguments.pop(0)
        sys.argv[1:] = arguments
    if command not in COMMANDS:
        sys.exit(f"error: there is no command {command}; there are: {', '.join(COMMANDS)}")
    importlib.import_module(f"capsbench.commands.{command}").main()


def _completed_command() -> str:
    """Which subcommand the line that the shell wants completed is about; Hydra then sees the line without it.

    Where none is named yet the subcommands themselves are the completion.
    """
    program, *words = os.environ.get("COMP_LINE", "capsbench train ").split(" ")
    if len(words) < 2:
        print(" ".join(COMMANDS))
        sys.exit()
    os.environ["COMP_LINE"] = " ".join([program, *words[1:]])
    return words[0]
