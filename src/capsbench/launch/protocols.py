"""The paper's runs, as conf/experiment composes them: what a run must be to stand beside the paper's number."""

import functools

import hydra
from hydra.core.global_hydra import GlobalHydra

from capsbench.launch.config import CONF
from capsbench.launch.sweep import plan
from capsbench.runs import Identity


@functools.cache
def protocol(experiment: str, data: str, router: str) -> Identity:
    """Compose the paper's run of an experiment with one data set and router, by their names in conf/."""
    GlobalHydra.instance().clear()  # of the command's own configuration
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        (run,) = plan(loader, [f"experiment={experiment}", f"data={data}", f"router={router}", "seed=1"])
    return run.identity
