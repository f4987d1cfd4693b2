"""`capsbench export` writes a network that answers as in PyTorch, for batches of any size."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from capsbench import routing
from capsbench.data.preparation import Preparation
from capsbench.inference import Description, load, save
from capsbench.inference.export import METADATA
from capsbench.models import CapsNet

Command = Callable[..., Path]
SHAPE = (3, 17, 20)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def make(router: str, **settings: Any) -> Path:
        arch = {"filters": 4, "groups": 2}
        description = Description(
            arch={"_target_": "capsbench.models.CapsNet", **arch},
            router={"_target_": f"capsbench.routing.{router}", **settings},
            preparation=Preparation(SHAPE, standardized=True, fit="pad"),
            class_names=("[b]cat", "dög"),
            scores="softmax",
            scale=2.0,
        )
        torch.manual_seed(0)
        (tmp_path / "run").mkdir()
        made = functools.partial(getattr(routing, router), **settings)
        save(description, CapsNet(SHAPE, 2, made, **arch), tmp_path / "run")
        return tmp_path / "run"

    return make


@pytest.mark.parametrize(("router", "iterations"), [("EMRouting", 2), ("VBRouting", 1)])  # adds 1e-9; uses digamma
def test_onnx(
    capsbench: Command, make: Callable[..., Path], capsys: pytest.CaptureFixture[str], router: str, iterations: int
) -> None:
    run = make(router, iterations=iterations)
    capsbench("export", f"run={run}")
    told = capsys.readouterr()
    assert "pictures: float32 (batch, 3, 17, 20), red, green, blue; batch is any number" in told.out
    assert "classes: [b]cat, dög" in told.out
    assert "checked in onnxruntime: for batches of 1, 2, 7, answers differ from PyTorch's by" in told.out
    assert told.err == ""
    session = onnxruntime.InferenceSession(run / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["[b]cat", "dög"]
    assert metadata["range"].startswith("0 (black) to 255 (white)")
    assert "made 20×17 by pad" in metadata["preparation"]
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("pictures", ["batch", *SHAPE])]
    pictures = torch.randint(256, (5, *SHAPE), dtype=torch.uint8)
    scores, poses = session.run(None, {"pictures": pictures.float().numpy()})
    answer = load(run).predict(pictures)
    assert torch.allclose(torch.tensor(scores), answer.scores, atol=1e-4)
    assert torch.allclose(torch.tensor(poses), answer.poses, atol=1e-4)


def test_an_exported_program(capsbench: Command, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = make("FMAgreement")
    capsbench("export", f"run={run}", "format=torch_export", "file=network.pt2")
    told = capsys.readouterr()
    assert "checked in torch.export.load" in told.out
    assert told.err == ""
    about = {METADATA: ""}
    network = torch.export.load("network.pt2", extra_files=about).module()
    assert json.loads(json.loads(about[METADATA])["class_names"]) == ["[b]cat", "dög"]
    pictures = torch.randint(256, (3, *SHAPE), dtype=torch.uint8)
    assert torch.allclose(network(pictures.float())[0], load(run).predict(pictures).scores, atol=1e-5)


def test_without_the_packages(
    capsbench: Command,
    make: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make("FMAgreement")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    capsbench("export", f"run={run}")
    assert "not checked: onnxruntime is not installed; pip install 'capsbench[export]'" in capsys.readouterr().out
    (run / "model.onnx").unlink()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SystemExit) as ended:
        capsbench("export", f"run={run}")
    assert str(ended.value) == "error: onnxscript is not installed: pip install 'capsbench[export]'"
    assert not (run / "model.onnx").exists()


def test_a_file_that_answers_otherwise_is_not_kept(
    capsbench: Command, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsbench.inference.export.TOLERANCE", -1.0)
    run = make("FMAgreement")
    with pytest.raises(SystemExit) as ended:
        capsbench("export", f"run={run}", "format=torch_export")
    assert "model.pt2 was not written: its answers differ from PyTorch's by" in str(ended.value)
    assert not (run / "model.pt2").exists()


OWN = """
from capsbench.routing import Capsules, Router


class Mine(Router):
    def route(self, votes, activations=None):
        poses = votes.mean(dim=1)
        if poses.norm() > 1:
            poses = 2 * poses
        return Capsules(poses, poses.norm(dim=-1))
"""


def test_a_router_that_cannot_be_exported(
    capsbench: Command, make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make("FMAgreement")
    (tmp_path / "conf" / "router").mkdir(parents=True)
    (tmp_path / "conf" / "router" / "mine.yaml").write_text("_target_: stubborn_router.Mine\n_partial_: true\n")
    (tmp_path / "stubborn_router.py").write_text(OWN)
    text = (run / "model.json").read_text().replace("capsbench.routing.FMAgreement", "stubborn_router.Mine")
    (run / "model.json").write_text(text)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(SystemExit) as ended:
        capsbench("export", f"run={run}", "--config-dir", "conf")
    assert str(ended.value).startswith("error: this network cannot be exported for a batch of any size: ")
    assert str(ended.value).endswith("; take capsbench.load in Python")
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "run must be given: capsbench export run=RUN"),
        (["run=nowhere"], "nowhere has no model.json; name the folder of a finished run"),
        (["run=nowhere", "format=tflite"], "format must be one of onnx, torch_export, got tflite"),
    ],
)
def test_what_is_refused(capsbench: Command, words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        capsbench("export", *words)
    assert said in str(ended.value)
    assert ended.value.code == 2
