"""Hydra's basic sweeper for grids whose finished runs are skipped. Hydra looks for sweepers in this namespace."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class GridSweeper(BasicSweeper):
    """Plans a grid once and launches the runs that are not finished; lists those that failed at the end."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the runs that these overrides ask for."""
        from capsbench.launch import sweep  # late: Hydra imports every plugin in every application

        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        runs = sweep.plan(loader, arguments)
        return sweep.Sweep(runs, sweep.asked_again(loader, arguments)).launch(self.launcher, self.max_batch_size)
