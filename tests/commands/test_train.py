"""The real entry points, on a few real digits, and what they say to bad input."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from capsbench.launch.build import restore
from capsbench.runs import Result, RunFolder
from capsbench.runs.identity import VERSION

Run = Callable[..., Path]


def fails(capsbench: Run, *arguments: str, code: int = 2) -> str:
    """The one line that a command fails with."""
    with pytest.raises(SystemExit) as error:
        capsbench(*arguments)
    assert error.value.code == code
    line = str(error.value)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def test_the_demo_in_miniature(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = capsbench(
        *("train", "-m", "experiment=demo", "router=fm,dynamic,em", "seed=1,2"),
        *("trainer.max_epochs=1", "data.batch_size=128", "data.subset=128"),
    )
    results = [Result.load(path.parent) for path in sorted(outputs.rglob("result.json"))]
    assert [(r.router, r.seed) for r in results] == [
        (router, seed) for router in ("dynamic", "em", "fm") for seed in (1, 2)
    ]
    capsbench("report", "experiment=demo")
    printed = capsys.readouterr().out
    assert all(router in printed for router in ("fm", "dynamic", "em"))
    assert "<svg" in (outputs / "demo" / "report.html").read_text()


def test_a_run_leaves_its_result_config_metrics_and_checkpoint(capsbench: Run) -> None:
    outputs = capsbench("train", "router=dynamic", "router.iterations=2", "trainer.max_epochs=1", "seed=7")
    (folder,) = outputs.glob("adhoc/digits/resnet_capsnet_small/dynamic2/seed7-*")
    result = json.loads((folder / "result.json").read_text())
    assert result["settings"]["router"]["iterations"] == 2
    assert result["parameters"] == 189_616
    assert (result["epochs"], result["steps"], result["smoke"]) == (1, 23, False)
    assert 0 < result["metrics"]["test/accuracy"] <= 1
    assert result["metrics"]["train/images_per_second"] > 0
    assert result["metrics"]["inference/ms_per_batch"] > 0
    assert {"versions", "device", "git_commit", "wall_time_s", "identity"} <= set(result)
    assert yaml.safe_load((folder / "config.yaml").read_text())["router"]["iterations"] == 2
    metrics = pd.read_csv(folder / "metrics.csv")
    assert {"epoch", "train/loss", "train/accuracy", "test/loss", "test/accuracy"} <= set(metrics.columns)
    assert (folder / "checkpoints" / "last.ckpt").is_file()


def test_a_finished_run_is_skipped(capsbench: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("train", "trainer=smoke")
    (path,) = capsbench(*arguments).rglob("result.json")
    before = path.stat().st_mtime_ns
    capsbench(*arguments)
    assert path.stat().st_mtime_ns == before
    assert "finished before, skipped" in capsys.readouterr().out


def test_a_run_that_is_cut_short_is_marked(capsbench: Run) -> None:
    (path,) = capsbench("train", "trainer=smoke").rglob("result.json")
    assert Result.load(path.parent).smoke


def test_the_same_command_gives_the_same_weights_bit_for_bit(capsbench: Run) -> None:
    arguments = ("train", "trainer.max_epochs=1", "data.subset=128", "data.augmentation.crop_padding=2", "seed=3")
    weights = []
    for folder in ("first", "second"):
        capsbench(*arguments, f"output_dir={folder}")
        (path,) = Path(folder).rglob("last.ckpt")
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    assert all(first.equal(second) for first, second in zip(*(w.values() for w in weights), strict=True))


@pytest.mark.parametrize(("limit", "smoke"), [("0", True), ("1", True), ("1.0", False), ("null", False)])
def test_limits_mark_a_run(capsbench: Run, limit: str, smoke: bool) -> None:
    capsbench("train", "trainer.max_epochs=1", f"trainer.limit_val_batches={limit}", "data.subset=64")
    (path,) = Path("outputs").rglob("result.json")
    assert Result.load(path.parent).smoke is smoke


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_other_precisions(capsbench: Run, precision: str) -> None:
    (path,) = capsbench("train", "trainer=smoke", f"trainer.precision={precision}").rglob("result.json")
    assert Result.load(path.parent).metrics["inference/ms_per_batch"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        "decoder=deconv",
        "decoder=dense loss=cross_entropy_learned",
        "arch=resnet_capsnet arch.blocks=[1,1,1] router.implementation=plain",
        "arch=capsnet_light arch.filters=16 router=dynamic router.implementation=plain",
    ],
)
def test_sixteen_bits_reach_every_layer(capsbench: Run, settings: str) -> None:
    few = ("data.subset=32", "data.batch_size=16", "data.test_subset=32", "trainer.max_epochs=1")
    (path,) = capsbench("train", *few, "trainer.precision=bf16-true", *settings.split()).rglob("result.json")
    weights = torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"].values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.bfloat16}


def test_a_run_limited_in_steps_has_a_rate(capsbench: Run) -> None:
    (path,) = capsbench("train", "trainer.max_steps=3", "trainer.max_epochs=-1").rglob("result.json")
    result = Result.load(path.parent)
    assert result.steps == 3
    assert result.metrics["train/images_per_second"] > 0


@pytest.mark.parametrize(("steps", "evaluated"), [(5, {5: False}), (30, {18: True, 30: False})])
def test_validation_accuracy_is_that_of_the_final_weights(
    capsbench: Run, steps: int, evaluated: dict[int, bool]
) -> None:
    """18 steps make an epoch, so that both runs end between two evaluations."""
    capsbench("train", "data.val_fraction=0.2", f"trainer.max_steps={steps}", "trainer.max_epochs=-1")
    (path,) = Path("outputs").rglob("result.json")
    result = Result.load(path.parent)
    assert not any(name.startswith("test/") for name in result.metrics)
    run = restore(RunFolder(path.parent))
    (batch,) = run.data.val_dataloader()
    capsules = run.module.predict(batch.images)
    right = (capsules.activations.argmax(dim=1) == batch.labels).float().mean().item()
    assert result.metrics["val/accuracy"] == pytest.approx(right)
    assert {row["step"]: "val/accuracy" in row for row in result.history} == evaluated


def test_latency_follows_no_batch_size(capsbench: Run) -> None:
    capsbench("train", "trainer=smoke", "data.eval_batch_size=7")
    (path,) = Path("outputs").rglob("result.json")
    assert Result.load(path.parent).metrics["inference/batch_size"] == 128


def test_a_result_tells_which_class_was_taken_for_which_and_how_busy_the_machine_was(capsbench: Run) -> None:
    (path,) = capsbench("train", "trainer=smoke", "data.eval_batch_size=50").rglob("result.json")
    result = Result.load(path.parent)
    assert result.watched_split == "test"
    confusion = np.array(result.confusion["test"])
    assert confusion.shape == (10, 10)
    assert confusion.sum() == 100
    assert confusion.trace() / 100 == pytest.approx(result.metrics["test/accuracy"])
    assert result.class_names == [str(digit) for digit in range(10)]
    assert set(result.machine_load) == {"before", "after", "cores"}
    assert json.loads(path.read_text())["load"] == result.machine_load
    assert result.identity_version == VERSION


def test_wandb_stays_offline(capsbench: Run) -> None:
    outputs = capsbench("train", "-m", "trainer=smoke", "logger=wandb", "seed=1,2")
    runs = list(outputs.rglob("offline-run-*/*.wandb"))
    assert len(runs) == 2
    digests = {Result.load(path.parent).identity for path in outputs.rglob("result.json")}
    assert {run.name for run in runs} == {f"run-adhoc-{digest}.wandb" for digest in digests}
    assert len(list(outputs.rglob("metrics.csv"))) == 2


def test_wandb_gets_the_pictures(capsbench: Run) -> None:
    outputs = capsbench("train", "trainer=smoke", "logger=wandb", "decoder=deconv")
    (picture,) = outputs.rglob("offline-run-*/files/media/images/pictures/reconstructions_*.png")
    assert picture.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["router=fmm"],
            "there is no router=fmm; did you mean fm or fm_sum? There are: attention, dynamic, dynamic1,",
        ),
        (
            ["arch=resnet", "router=none", "loss=centripetal"],
            "is taken from arch.pose_dim, which is not there; give a value itself",
        ),
        (["arch=capsnett"], "there is no arch=capsnett; did you mean capsnet"),
        (["data=fashion"], "There are: affnist, arrays, cifar10, cifar10_jpeg, digits"),
        (["rooter=fm"], "there is no setting rooter; did you mean router?"),
        (["trainer.max_epoch=3"], "there is no setting trainer.max_epoch; did you mean max_epochs"),
        (["router.implementation=fast"], "router.implementation must be auto or plain or fused, got 'fast'"),
        (["router=em", "router.iterations=0"], "router.iterations must be an integer of at least 1, got 0"),
        (["data.augmentation.flip=no"], "data.augmentation.flip must be true or false, got no"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs must be a number such as 10, got abc"),
        (["data.augmentation=null"], "data.augmentation must not be null; crop_padding=0 and flip=false turn it off"),
        (["data=affnist", "data.per_digit=4"], "data.per_digit=4 has no effect with data.test_source=official"),
        (["data.batch_size=1.5"], "data.batch_size must be a whole number such as 64, got 1.5"),
        (["data.subset=abc"], "data.subset must be a whole number or null, got abc"),
        (["arch.vote_gain=big"], "arch.vote_gain must be a number or null, got big"),
        (
            ["data=multi_mnist", "data.absent=stand_in", "loss=spread"],
            "takes one label for each image, got 2; use loss",
        ),
        (["arch.blocks=3"], "arch.blocks must be a list such as [1, 1, 1], got 3"),
        (["trainer.devices=2"], "trainer.devices=2 needs trainer=ddp"),
        (["trainer=ddp", "trainer.devices=0"], "trainer.devices must be a number of at least 1, or auto, got 0"),
        (["checkpoint_minutes=-1"], "checkpoint_minutes must be at least 0, got -1"),
        (["checkpoint_minutes=null"], "checkpoint_minutes must be at least 0, got None"),
        (["trainer.max_epochs=0"], "trainer.max_epochs must be at least 1, or -1 for no limit, got 0"),
        (["trainer.max_steps=0"], "trainer.max_steps must be at least 1, or -1 for no limit, got 0"),
        (["trainer.max_steps=null"], "trainer.max_steps must be at least 1, or -1 for no limit, got None"),
        (["+trainer.val_check_interval=0.25"], "trainer.val_check_interval cannot be set: a run is evaluated at"),
        (["trainer.check_val_every_n_epoch=null"], "check_val_every_n_epoch must be a whole number of at least 1"),
        (["+trainer.accumulate_grad_batches=0"], "accumulate_grad_batches must be a whole number of at least 1, got 0"),
        (["-m", "arch.stride_padding=odd", "seed=1,2"], "arch.stride_padding must be symmetric or tensorflow"),
        (["-m", "trainer.max_epochs=0", "seed=1,2"], "trainer.max_epochs must be at least 1"),
        (["seed=-1"], "seed must be an integer from 0 to 4294967295, got -1"),
        (["arch.pose_dim=12"], "pose_dim must be a square number for the matrix transform"),
        (["data=mnist", "data_dir=nowhere", "arch.blocks=[1,1]"], "blocks must be three numbers"),
        (
            ["data=image_folder", "data.path=nowhere", "decoder=conv"],
            "did you mean deconv? There are: deconv, deepcaps, dense, none",
        ),
        (["decoder=deconv", "decoder.loss_weight=-1.0"], "decoder.loss_weight must be at least 0, got -1.0"),
        (["arch.stride_padding=odd"], "arch.stride_padding must be symmetric or tensorflow, got 'odd'"),
        (["router=[fm"], "cannot read the override router=[fm"),
    ],
)
def test_bad_input_is_one_line(capsbench: Run, arguments: list[str], said: str) -> None:
    assert said in fails(capsbench, "train", *arguments)


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=1,2"]])
def test_a_folder_that_cannot_be_written(capsbench: Run, arguments: list[str]) -> None:
    assert "cannot use /proc/nowhere" in fails(capsbench, "train", "output_dir=/proc/nowhere", *arguments, code=1)


def test_a_run_that_diverges_is_no_wrong_setting(capsbench: Run) -> None:
    said = fails(capsbench, "train", "trainer=smoke", "optim.optimizer.lr=1e30", code=1)
    assert "not finite" in said


@pytest.mark.parametrize("chosen", [True, False])
def test_memory_order_is_what_was_asked_for(capsbench: Run, chosen: bool) -> None:
    capsbench("train", "trainer=smoke", "data.subset=64", f"channels_last={chosen}")
    (checkpoint,) = Path("outputs").rglob("last.ckpt")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    kernels = [weight for name, weight in weights.items() if "backbone" in name and weight.ndim == 4]
    wide = [weight for weight in kernels if weight.shape[1] > 1 and weight.shape[2] > 1]  # others have both orders
    assert wide
    assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in wide} == {chosen}


def test_one_device_of_a_trainer_for_several(capsbench: Run) -> None:
    capsbench("train", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1", "data.subset=64")
    (path,) = Path("outputs").rglob("result.json")
    assert "×" not in Result.load(path.parent).device


def test_compiling_without_a_compiler(capsbench: Run) -> None:
    from torch._inductor import config  # slow to import

    with config.patch({"cpp.cxx": (None, "/nowhere"), "fx_graph_cache": False, "autotune_local_cache": False}):
        said = fails(capsbench, "train", "trainer=smoke", "compile=default", code=1)
    assert said.endswith(
        "compile needs a C++ compiler such as g++, and none works here; install one, or set compile=null"
    )


@pytest.mark.parametrize("data", ["affnist", "multi_mnist", "small_norb"])
def test_an_experiments_augmentation_is_refused_and_not_recorded(capsbench: Run, data: str) -> None:
    said = fails(capsbench, "train", "experiment=fig5", f"data={data}", "data.absent=stand_in")
    assert "does not accept data.augmentation" in said
    assert not Path("outputs").exists()


def test_a_length_of_nothing_is_no_failed_run(capsbench: Run) -> None:
    fails(capsbench, "train", "trainer.max_epochs=0")
    assert not list(Path().rglob("error.txt"))


def own_images(**arrays: np.ndarray) -> list[str]:
    np.savez("own.npz", **arrays)
    return ["data=arrays", "data.path=own.npz", "decoder=deconv"]


def test_a_decoder_that_does_not_fit_the_images(capsbench: Run) -> None:
    images = np.zeros((40, 30, 30), dtype=np.uint8)
    said = fails(capsbench, "train", *own_images(images=images, labels=np.arange(40) % 2))
    assert "images must be multiples of 4 pixels in height and width, got 30×30; use decoder=dense" in said


def test_a_decoder_without_labels(capsbench: Run) -> None:
    said = fails(capsbench, "train", *own_images(images=np.zeros((40, 32, 32), dtype=np.uint8)), code=1)
    assert "own.npz must hold images and labels, or" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["trian"],
            "there is no command trian; did you mean train? There are: analyze, benchmark, cancel, clean, dashboard,",
        ),
        (["status", "--jsn"], "unrecognized arguments: --jsn; capsbench status --help shows what there is"),
        (["status", "table3"], "settings are given as name=value, got table3"),
        (["data"], "the following arguments are required: ACTION"),
        (
            ["analyze", "equivarience", "run=x"],
            "there is no capsbench analyze equivarience; did you mean equivariance?",
        ),
        (["train", "--sweep"], "unrecognized arguments: --sweep; capsbench train --help"),
    ],
)
def test_wrong_usage_is_one_line(
    capsbench: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as error:
        capsbench(*arguments)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {said}")
    assert printed.count("\n") == 1


def test_help_and_version_come_without_pytorch() -> None:
    for words in (["--help"], ["--version"], ["train", "--help"], ["report", "--help"], ["status", "seed=1"]):
        code = (
            "import sys\nfrom capsbench.commands.cli import main\n"
            f"try: main({words})\nexcept SystemExit as end: assert not end.code\n"
            "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'lightning')))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_report_on_nothing(capsbench: Run) -> None:
    assert "no finished runs in outputs; make some with: capsbench train" in fails(capsbench, "report")
    assert "no finished runs in outputs/demo" in fails(capsbench, "report", "experiment=demo")


def test_completion_knows_commands_groups_and_options(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complete(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        with contextlib.suppress(SystemExit):
            capsbench("-sc", "query=bash")
        return capsys.readouterr().out.split()

    assert complete("capsbench ") == [
        *("train", "status", "cancel", "report", "analyze", "evaluate", "predict", "export", "data"),
        *("clean", "dashboard", "wandb-sweep", "benchmark"),
    ]
    assert complete("capsbench train router=d") == ["router=dynamic", "router=dynamic1", "router=dynamic2"]


def test_as_a_process(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "capsbench", "train", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    shown = run("--cfg", "job")
    assert shown.returncode == 0
    assert yaml.safe_load(shown.stdout)["router"]["_target_"] == "capsbench.routing.FMAgreement"
    assert list(tmp_path.iterdir()) == []
    wrong = run("router=fmm")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: there is no router=fmm")
    assert wrong.stderr.strip().count("\n") == 0
    assert "Traceback" not in wrong.stderr


def test_weights_can_be_read_by_whom_results_can(capsbench: Run) -> None:
    outputs = capsbench("train", "trainer=smoke", "data=digits", "arch=capsnet_light")
    modes = {path.stat().st_mode for path in outputs.rglob("*") if path.name in ("model.safetensors", "result.json")}
    assert len(modes) == 1


def test_a_result_of_very_many_classes_has_no_matrix_and_can_be_read(
    capsbench: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsbench.training.evaluation.LARGEST_MATRIX", 9)
    outputs = capsbench("train", "trainer=smoke", "data=digits", "arch=capsnet_light")
    (folder,) = (path.parent for path in outputs.rglob("result.json"))
    assert Result.load(folder).confusion == {}
