"""One run: train, measure, write the result."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import LambdaCallback, RichProgressBar

from capsbench.analysis import write_pictures
from capsbench.data import BatchKey, ImageDataModule
from capsbench.data.digest import Contents
from capsbench.data.labels import most_frequent
from capsbench.routing import NonFiniteError
from capsbench.runs.environment import describe_device, versions
from capsbench.runs.folder import RunFolder
from capsbench.runs.identity import Identity
from capsbench.runs.measures import main_metric
from capsbench.runs.network import keep_network
from capsbench.runs.progress import PrintEpochs, ReportProgress
from capsbench.runs.provenance import Provenance
from capsbench.runs.result import Result
from capsbench.runs.state import Shown
from capsbench.signals import uninterrupted
from capsbench.training import (
    CheckpointError,
    ClassificationModule,
    History,
    NaNGuard,
    ResumeCheckpoint,
    RoutingDiagnostics,
    StopOnSignal,
    Throughput,
    UnfailingLogger,
    VerifiedIO,
    check_monitors,
    check_share,
    choose,
    evaluate,
    inference_ms,
    load_average,
    read_checkpoint,
    write_checkpoint,
)

log = logging.getLogger(__name__)

INFERENCE_BATCH = 128

TrainerFactory = Callable[..., lightning.Trainer]


def train_and_test(
    identity: Identity,
    folder: RunFolder,
    *,
    data: ImageDataModule,
    module: ClassificationModule,
    network: Mapping[str, Mapping[str, Any]],
    make_trainer: TrainerFactory,
    loggers: Sequence[UnfailingLogger],
    callbacks: Sequence[lightning.Callback] = (),
    begun_with: str = "",
    progress: Shown = "nothing",
    checkpoint_every: timedelta = timedelta(minutes=1),
) -> Result:
    """Train to the end, measure the final weights on the watched split, write `result.json` and return it.

    Where the folder holds a checkpoint of an interrupted run, go on from there: on one kind of CPU, with as many
    threads, to the same weights and metrics, bit for bit, as without the interruption.

    Raises:
        ValueError: a callback watches what is not measured.
        NonFiniteError: NaN in training, or in what was measured at its end.
        DataError: the data has changed since the run began.
        Interrupted: a signal said to stop.
        LostError: the folder was deleted meanwhile.

    Args:
        identity: of the run.
        folder: of the run; checkpoints and the result go there.
        data, module: what to train on, and what.
        network: the settings that "arch" and "router" were made with.
        make_trainer: makes the trainer, given callbacks and loggers.
        loggers: where metrics go.
        callbacks: further ones, which a user has chosen.
        begun_with: which weights of another run the network has, in words.
        progress: how far the run is shows as a bar, or as a line for each epoch, or not at all.
        checkpoint_every: the time between two checkpoints.
    """
    check_monitors(callbacks, [name.replace("_", "/", 1) for name in module.metrics])
    throughput, history = Throughput(), History()
    contents, checkpoint = data.contents, find_checkpoint(folder)
    provenance = Provenance(identity, folder, contents)
    if contents is not None and checkpoint is not None:  # before pictures are decoded
        provenance.check_files(files_of(checkpoint))
    stop = StopOnSignal()
    trainer = make_trainer(
        logger=loggers,
        callbacks=[
            LambdaCallback(on_fit_start=lambda trainer, _: check_share(trainer, data)),
            *([LambdaCallback(on_fit_start=_end)] if checkpoint == folder.weights else []),
            NaNGuard(folder.nonfinite),
            throughput,
            RoutingDiagnostics(),
            history,
            ReportProgress(folder),
            provenance,
            *callbacks,
            stop,
            ResumeCheckpoint(folder.resume, folder.previous, checkpoint_every, stop),
            *([RichProgressBar()] if progress == "bar" else []),
            *([PrintEpochs(history)] if progress == "lines" else []),
        ],
        enable_progress_bar=progress == "bar",
    )
    trainer.strategy.checkpoint_io = VerifiedIO()
    with stop.held:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        wall_time = throughput.seconds
        chosen = choose(trainer, module)
        write_checkpoint(trainer, folder.weights)
    device, load_after = trainer.strategy.root_device, load_average()
    watched = data.watched_split
    trainer.loggers = []  # the last evaluation is no epoch of its own
    final = evaluate(trainer, module, data, watched)
    last = history.epochs[-1] if history.epochs else {}
    if last and main_metric(last, (watched,)) not in last:  # that epoch was not evaluated
        for logger in loggers:
            logger.log_metrics({**final.metrics, "epoch": last["epoch"] - 1}, int(last["step"]) - 1)
    module.to(device)  # the trainer has moved it to the CPU
    if module.decoder is not None and trainer.is_global_zero:
        pictures = write_pictures(module, data, folder.pictures)
        for logger in loggers:
            logger.log_pictures(pictures)
    for logger in loggers:
        logger.finalize("success")

    passes = {"repetitions": 1, "warm_up": 0} if identity.is_smoke else {}
    first = torch.arange(min(INFERENCE_BATCH, data.num_examples(watched)), device=data.device)
    images = data.batch(watched, BatchKey(0, first)).images.to(device)
    with trainer.precision_plugin.forward_context():
        latency = inference_ms(module.model, trainer.precision_plugin.convert_input(images), **passes)
    metrics = {
        **history.latest,
        **final.metrics,
        "train/images_per_second": throughput.images_per_second,
        "inference/ms_per_batch": latency,
        "inference/batch_size": len(images),
    }
    unmeasured = [name for name, value in metrics.items() if not math.isfinite(value)]
    if unmeasured:
        raise NonFiniteError(f"{', '.join(unmeasured)} came out as NaN or infinite after {trainer.global_step} steps")
    smoke = identity.is_smoke or data.is_stand_in
    result = Result(
        experiment=identity.experiment,
        data=identity.data,
        arch=identity.arch,
        router=identity.router,
        seed=identity.seed,
        identity=identity.digest,
        settings=identity.settings,
        choices=identity.choices,
        metrics=metrics,
        history=history.epochs,
        parameters=module.num_parameters,
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        wall_time_s=wall_time,
        versions=versions(),
        device=describe_device(device) + (f" × {trainer.world_size}" if trainer.world_size > 1 else ""),
        date=datetime.now(UTC).date().isoformat(),
        git_commit=provenance.sessions[-1]["git_commit"],
        sessions=provenance.sessions,
        smoke=smoke,
        chosen=chosen,
        begun_with=begun_with,
        data_title=data.title,
        stands_in_for=data.stands_in_for,
        train_examples=data.num_examples("train"),
        test_examples=data.num_examples("test"),
        full=not (smoke or data.is_cut),
        confusion={watched: final.confusion} if final.confusion else {},
        class_names=list(data.names),
        by_label={watched: final.by_label} if final.by_label else {},
        most_frequent_labels=most_frequent(data.splits[watched].labels),
        class_weights=[] if data.loss_weights is None else data.loss_weights.tolist(),
        machine_load={"before": throughput.load_before, "after": load_after, "cores": os.cpu_count()},
        identity_version=identity.version,
        data_files=_files(contents, data),
    )
    if trainer.is_global_zero:
        folder.check_whole()
        for logger in loggers:
            logger.log_summary(summary_of(result))
        keep_network(folder, network, data, module, result)
        with uninterrupted():
            result.save(folder.path)
            folder.remove_leftovers()
    return result


def _end(trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
    """Train no further: training had ended, perhaps before its limits."""
    trainer.should_stop = True


def _files(contents: Contents | None, data: ImageDataModule) -> dict[str, int | str]:
    """What a result says of the files of one's own data."""
    if contents is None:
        return {}
    unreadable = [f"{split}: {name}" for split, names in data.unreadable.items() for name in names]
    return contents.record | ({"unreadable": len(unreadable), "first_unreadable": unreadable[0]} if unreadable else {})


def files_of(checkpoint: Path) -> Mapping[str, Any] | None:
    """The record of the files that an interrupted run was trained on; None of a version that kept none."""
    kept = read_checkpoint(checkpoint)["callbacks"].get("Provenance", {})
    record: Mapping[str, Any] | None = kept.get("data", {}).get("files")
    return record


def find_checkpoint(folder: RunFolder) -> Path | None:
    """The newest checkpoint from which an unfinished run can go on.

    One that is damaged is set aside, and the log says so.
    """
    for path in (folder.weights, folder.resume, folder.previous):
        try:
            read_checkpoint(path)
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            log.warning("%s; it is kept as %s, and not gone on from", error, folder.set_aside(path).name)
        else:
            return path
    return None


def summary_of(result: Result) -> dict[str, Any]:
    """What a run came to, beside its epochs, for loggers that keep a summary; the dashboard plots it."""
    told = {"parameters": result.parameters, "wall_time_s": result.wall_time_s, "smoke": result.smoke}
    return {**result.metrics, **told}
