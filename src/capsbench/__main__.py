"""The command `capsbench`; `python -m capsbench` is the same."""

from capsbench.signals import heeded


def main() -> None:
    """Heed signals before anything else is imported; then run the command."""
    with heeded():
        from capsbench.commands import cli

        cli.main()


if __name__ == "__main__":
    main()
