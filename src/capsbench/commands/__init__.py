"""The command `capsbench`: one file per subcommand."""
