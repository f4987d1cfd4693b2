"""`python -m capsbench` is the command `capsbench`."""

from capsbench.commands.cli import main

if __name__ == "__main__":
    main()
