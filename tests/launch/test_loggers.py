"""TensorBoard and MLflow beside metrics.csv, in the run's folder."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FEW = ("train", "arch=capsnet_light", "arch.filters=8", "arch.groups=2", "data.subset=32", "data.test_subset=32")
FEW += ("trainer.max_epochs=2", "trainer.enable_progress_bar=false")


def test_tensorboard_has_a_value_for_each_epoch(capsbench: Callable[..., Path]) -> None:
    outputs = capsbench(*FEW, "logger=tensorboard")
    (result,) = outputs.rglob("result.json")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(result.parent / "tensorboard"))
    events.Reload()
    assert {(each.step, each.value) for each in events.Scalars("epoch")} == {(0, 1.0), (1, 2.0)}
    assert len(events.Scalars("test/accuracy")) == 2
    assert (result.parent / "metrics.csv").is_file()


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="pip install 'capsbench[mlflow]'")
def test_mlflow_keeps_its_files_in_the_runs_folder(
    capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    outputs = capsbench(*FEW, "logger=mlflow")
    (accuracy,) = outputs.rglob("mlruns/*/*/metrics/test/accuracy")
    assert len(accuracy.read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_one_line(
    capsbench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = sys.modules[f"lightning.pytorch.loggers.{name}"]
    fabric = sys.modules["lightning.fabric.loggers.tensorboard"]
    for place, flag in (
        (module, "_MLFLOW_AVAILABLE"),
        (fabric, "_TENSORBOARD_AVAILABLE"),
        (fabric, "_TENSORBOARDX_AVAILABLE"),
    ):
        if hasattr(place, flag):
            monkeypatch.setattr(place, flag, _Missing(name))
    with pytest.raises(SystemExit) as error:
        capsbench(*FEW, f"logger={name}")
    assert str(error.value) == f"error: {name} is not installed: pip install 'capsbench[{name}]'"


class _Missing:
    def __init__(self, name: str) -> None:
        self.name = name

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"Requirement '{self.name}>=1.0' not met"
