"""The paper's runs, as conf/experiment composes them: what a run must be to stand beside the paper's number."""

import functools
import re

from capsbench.launch.config import CONF, open_configuration
from capsbench.launch.sweep import plan
from capsbench.runs import Identity


@functools.cache
def protocol(experiment: str, data: str, router: str) -> Identity:
    """Compose the paper's run of an experiment with one data set and router, by their names in conf/."""
    with open_configuration() as loader:
        (run,) = plan(loader, [f"experiment={experiment}", f"data={data}", f"router={router}", "seed=1"])
    return run.identity


def departures(experiment: str) -> str:
    """Return how a recipe departs from what was published, as its file says after "Departs:"; else nothing."""
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    found = re.search(r"^# Departs: +(.*(?:\n# {3,}.*)*)", text, re.MULTILINE)
    return re.sub(r"\s*\n#\s*", " ", found[1]) if found else ""
