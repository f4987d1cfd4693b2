"""Hides messages of libraries that tell a user nothing."""

import logging
import os
import warnings

HARMLESS = (
    ".*does not have many workers.*",  # complete batches come from memory; workers would slow that down
    ".*smaller than the logging interval.*",  # metrics are logged per epoch
    "Checkpoint directory .* exists and is not empty.*",  # a run resumes
    "Experiment logs directory .* exists and is not empty.*",  # a resumed run writes all its metrics again
    "You're resuming from a checkpoint that ended before the epoch.*",  # batches are computed: nothing is lost
    ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 with torch 2.13 and later
    "The `srun` command is available on your system but is not used.*",  # launcher=slurm submits the jobs itself
    "Using `DistributedSampler` with the dataloaders.*",  # our batches are divided so that no example is seen twice
    "You defined a `validation_step` but have no `val_dataloader`.*",  # benchmarks only train
)
"""Beginnings of warnings, as regular expressions."""

UNLESS_SET = {
    "KINETO_LOG_LEVEL": "99",  # the profiler that measures memory speaks of each start and end
    "WANDB_SILENT": "true",  # a command says in one line where its runs are logged; errors are raised, not printed
    "WANDB_INIT_TIMEOUT": "20",  # seconds; then a run is logged offline
    "WANDB_FINISH_TIMEOUT": "60",  # seconds to upload the rest of a run, which a job that is preempted may have
    "WANDB_FINISH_TIMEOUT_RAISES": "true",
}
"""Environment variables."""


def hide_harmless_messages() -> None:
    """Hide the warnings in `HARMLESS`, and what Lightning, PyTorch's profiler and wandb say whenever they start."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    for variable, value in UNLESS_SET.items():
        os.environ.setdefault(variable, value)
