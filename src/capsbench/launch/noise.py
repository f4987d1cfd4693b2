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
    "The `srun` command is available on your system but is not used.*",  # launchers start the processes themselves
    "Using `DistributedSampler` with the dataloaders.*",  # our batches are divided so that no example is seen twice
    r"Found .* module\(s\) in eval mode at the start of training.*",  # parts that are frozen
    "You defined a `validation_step` but have no `val_dataloader`.*",  # benchmarks only train
)
"""Beginnings of warnings, as regular expressions."""

UNLESS_SET = {
    "KINETO_LOG_LEVEL": "99",  # the profiler that measures memory speaks of each start and end
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a run's folder holds what is logged of it, as files
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_SILENT": "true",  # a command says in one line where its runs are logged; errors are raised, not printed
    "WANDB_INIT_TIMEOUT": "20",  # seconds; then a run is logged offline
    "WANDB_FINISH_TIMEOUT": "60",  # seconds to upload the rest of a run, which a job that is preempted may have
    "WANDB_FINISH_TIMEOUT_RAISES": "true",
}
"""Environment variables."""

LOGGERS = {
    "lightning.pytorch": logging.WARNING,
    "lightning.fabric": logging.WARNING,
    # where a run is over several processes: of one that ends they say in many lines what we say in one
    "torch.distributed.elastic.agent.server.api": logging.CRITICAL,
    "torch.distributed.elastic.multiprocessing.api": logging.CRITICAL,
    "torch.multiprocessing.spawn": logging.CRITICAL,
}
"""Loggers of libraries, and the least level that is shown."""


def hide_harmless_messages() -> None:
    """Hide the warnings in `HARMLESS`, what is below a level of `LOGGERS`, and what the profiler and wandb say."""
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)
    for variable, value in UNLESS_SET.items():
        os.environ.setdefault(variable, value)
