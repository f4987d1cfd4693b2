"""The LightningModule that trains capsule networks, its losses and its callbacks."""

from capsbench.training.centripetal import CentripetalLoss
from capsbench.training.checkpoint import CheckpointError, VerifiedIO, read_checkpoint
from capsbench.training.diagnostics import RoutingDiagnostics
from capsbench.training.evaluation import Evaluated, check_share, evaluate
from capsbench.training.history import History
from capsbench.training.loggers import UnfailingLogger, WandbLogger
from capsbench.training.losses import CrossEntropyLoss, MarginLoss, SpreadLoss
from capsbench.training.metrics_file import MetricsFile
from capsbench.training.module import ClassificationModule
from capsbench.training.nan_guard import NaNGuard
from capsbench.training.optimizers import KerasAdam, parameter_groups
from capsbench.training.performance import compile_networks, keep_freed_memory, use_channels_last
from capsbench.training.resume import ResumeCheckpoint, StopOnSignal, write_checkpoint
from capsbench.training.selection import check_monitors, choose
from capsbench.training.throughput import Throughput, inference_ms, load_average

__all__ = [
    "CentripetalLoss",
    "CheckpointError",
    "ClassificationModule",
    "CrossEntropyLoss",
    "Evaluated",
    "History",
    "KerasAdam",
    "MarginLoss",
    "MetricsFile",
    "NaNGuard",
    "ResumeCheckpoint",
    "RoutingDiagnostics",
    "SpreadLoss",
    "StopOnSignal",
    "Throughput",
    "UnfailingLogger",
    "VerifiedIO",
    "WandbLogger",
    "check_monitors",
    "check_share",
    "choose",
    "compile_networks",
    "evaluate",
    "inference_ms",
    "keep_freed_memory",
    "load_average",
    "parameter_groups",
    "read_checkpoint",
    "use_channels_last",
    "write_checkpoint",
]
