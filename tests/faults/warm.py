"""A command in a process that has imported everything beforehand; `multiprocessing` runs this file after its fork."""

import os
import sys

from capsbench.commands import cli

if __name__ == "__main__":
    folder, *arguments = sys.argv[1:]
    os.chdir(folder)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    cli.main(arguments)
