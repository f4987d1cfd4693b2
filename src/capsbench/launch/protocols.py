"""The paper's runs, as conf/experiment composes them: what a run must be to stand beside the paper's number."""

import functools

from capsbench.launch.config import open_configuration
from capsbench.launch.sweep import plan
from capsbench.runs import Identity


@functools.cache
def protocol(experiment: str, data: str, router: str) -> Identity:
    """Compose the paper's run of an experiment with one data set and router, by their names in conf/."""
    with open_configuration() as loader:
        (run,) = plan(loader, [f"experiment={experiment}", f"data={data}", f"router={router}", "seed=1"])
    return run.identity
