"""Weights & Biases logs what runs do, and stops none of them."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from capsbench.launch import wandb as looked_at
from capsbench.runs import Result
from capsbench.training import ClassificationModule, History

Run = Callable[..., Path]
Read = Callable[[Path], dict[Path, list[Any]]]
RUN = ("train", "data.subset=64", "data.test_subset=32", "data.batch_size=16", "trainer.max_epochs=2")
pytestmark = pytest.mark.engines
BARE = (*RUN, "trainer.max_epochs=1")
PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
SECTION = PAGE.read_text().partition("\n## Weights & Biases\n")[2].partition("\n## ")[0]
COMMANDS = [found.strip() for found in re.findall(r"^capsbench ([^#>\n]*)", SECTION, re.MULTILINE)]


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, and none of wandb's variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("API_KEY", "MODE", "PROJECT", "ENTITY", "DIR", "BASE_URL"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


def rows(records: list[Any]) -> list[dict[str, Any]]:
    """What was logged, each time."""
    return [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]


def points(records: list[Any], key: str) -> list[tuple[int, float]]:
    """A curve: epochs and values."""
    return [(row["epoch"], row[key]) for row in rows(records) if key in row]


def exit_codes(files: dict[Path, list[Any]]) -> list[int]:
    return [record.exit.exit_code for records in files.values() for record in records if record.HasField("exit")]


def test_epochs_count_from_one_and_the_last_evaluation_is_no_second_point(capsbench: Run, read_wandb: Read) -> None:
    outputs = capsbench(*RUN, "logger=wandb")
    files = read_wandb(outputs)
    (records,) = files.values()
    (path,) = outputs.rglob("result.json")
    history = Result.load(path.parent).history
    for key in ("train/loss", "train/accuracy", "test/accuracy", "test/loss"):
        assert points(records, key) == [(row["epoch"], pytest.approx(row[key])) for row in history]
    assert [row["epoch"] for row in history] == [1, 2]
    assert exit_codes(files) == [0]


def test_an_end_without_an_evaluation_is_a_point(capsbench: Run, read_wandb: Read) -> None:
    outputs = capsbench(*RUN, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "logger=wandb")
    (records,) = read_wandb(outputs).values()
    (path,) = outputs.rglob("result.json")
    *_, last = points(records, "test/accuracy")
    assert [epoch for epoch, _ in points(records, "test/accuracy")] == [2, 3]
    assert last == (3, pytest.approx(Result.load(path.parent).metrics["test/accuracy"]))


def test_an_interrupted_run_does_not_look_finished(
    capsbench: Run, read_wandb: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ClassificationModule.training_step

    def step(self: ClassificationModule, *arguments: Any) -> Any:
        if self.global_step == 5:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "training_step", step)
        with pytest.raises(SystemExit):
            capsbench(*RUN, "logger=wandb")
    assert exit_codes(read_wandb(Path("outputs"))) == [128 + signal.SIGTERM]
    outputs = capsbench(*RUN, "logger=wandb")
    files = read_wandb(outputs)
    assert exit_codes(files) == [128 + signal.SIGTERM, 0]
    *_, resumed = files.values()
    assert [epoch for epoch, _ in points(resumed, "train/loss")] == [1, 2], "its file has all epochs"


def test_a_failed_run_does_not_look_finished(capsbench: Run, read_wandb: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "on_train_epoch_end", lambda *_: 1 / 0)
    with pytest.raises(SystemExit):
        capsbench(*BARE, "logger=wandb")
    assert exit_codes(read_wandb(Path("outputs"))) == [1]


def test_a_run_on_two_devices_is_one_run(capsbench: Run, read_wandb: Read) -> None:
    two = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    (records,) = read_wandb(capsbench(*RUN, *two, "logger=wandb")).values()
    assert [epoch for epoch, _ in points(records, "test/accuracy")] == [1, 2]


def test_without_an_account_one_line_says_so_and_runs_are_logged_offline(
    capsbench: Run, read_wandb: Read, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    look = looked_at._cause_of_silence
    monkeypatch.setattr(looked_at, "_cause_of_silence", lambda settings: asked.append(settings) or look(settings))
    outputs = capsbench(*BARE, "-m", "seed=1,2", "logger=wandb", "logger.wandb.mode=online")
    said = [line for line in capsys.readouterr().out.splitlines() if "Weights & Biases" in line]
    assert said == [
        "Weights & Biases cannot be used (No API key configured. Use `wandb login` to log in), so runs are logged "
        "offline; wandb sync outputs/adhoc/digits/resnet_capsnet_small/fm/*/wandb/offline-run-* uploads them"
    ]
    assert len(asked) == 1, "once for all runs"
    assert exit_codes(read_wandb(outputs)) == [0, 0]
    capsbench(*BARE, "-m", "seed=1,2", "logger=wandb", "logger.wandb.mode=online")
    assert len(asked) == 1, "there is nothing left to log"


def test_without_a_network_the_answer_comes_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    loggers = {"wandb": {"_target_": "capsbench.training.WandbLogger", "mode": "online"}}
    start = time.monotonic()
    assert looked_at.settle([(loggers, Path("x"))] * 3) == [{"logger.wandb.mode": "offline"}] * 3
    assert time.monotonic() - start < 10


def test_a_server_that_is_lost_between_the_look_and_the_run(
    capsbench: Run, read_wandb: Read, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(looked_at, "_cause_of_silence", lambda settings: None)
    for name, value in {"API_KEY": "a" * 40, "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "3"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # it reads its variables once
    outputs = capsbench(*BARE, "-m", "seed=1,2", "logger=wandb", "logger.wandb.mode=online")
    said = [line for line in capsys.readouterr().out.splitlines() if "Weights & Biases" in line]
    assert len(said) == 2
    assert all("logged offline, since Weights & Biases failed: " in line for line in said)
    assert exit_codes(read_wandb(outputs)) == [0, 0]
    assert not list(outputs.rglob("error.txt"))
    wandb.teardown()


def test_the_environment_is_obeyed_and_the_command_line_goes_before(
    capsbench: Run, read_wandb: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"MODE": "offline", "PROJECT": "ours", "ENTITY": "team", "DIR": "kept/here"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    outputs = capsbench(*BARE, "logger=wandb")
    ((path, records),) = read_wandb(tmp_path).items()
    assert path.is_relative_to(tmp_path / "kept" / "here" / "wandb")
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.entity) == ("ours", "team")
    (first,) = outputs.rglob("config.yaml")
    before = first.parent
    monkeypatch.setenv("WANDB_MODE", "online")
    capsbench(
        *BARE,
        "seed=2",
        "logger=wandb",
        "logger.wandb.mode=offline",
        "logger.wandb.project=mine",
        "logger.wandb.save_dir=there",
    )
    ((_, records),) = read_wandb(tmp_path / "there").items()
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.entity) == ("mine", "team")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    capsbench(*BARE, "seed=3", "logger=wandb")
    assert len(read_wandb(tmp_path)) == 2
    for name in ("MODE", "PROJECT", "ENTITY", "DIR"):
        monkeypatch.delenv(f"WANDB_{name}")
    capsbench(*BARE)
    assert len(list(before.parent.glob("seed1-*"))) == 1, "where a run is logged is no part of what it is"
    assert yaml.safe_load(first.read_text())["logger"]["wandb"]["project"] == "ours"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(capsbench: Run, command: str) -> None:
    outputs = capsbench(*command.split(), "trainer=smoke", "data.subset=64", "data.test_subset=32")
    runs = 4 if command.startswith("train") else 0
    assert len(list(outputs.glob("adhoc/digits/*/*/*/wandb/offline-run-*"))) == runs


def test_the_page_has_commands() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"train", "wandb-sweep"}
