"""A trained network for other programs: as ONNX, or as PyTorch's exported program; for batches of any size."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from capsbench.data.files import written_atomically
from capsbench.inference.classifier import Classifier

Format = Literal["onnx", "torch_export"]
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
INPUT, OUTPUTS = "pictures", ("scores", "poses")
TOLERANCE = 1e-4
"""How far answers may be from PyTorch's, on the scale of the largest of them but at least 1."""
BATCHES = (1, 2, 7)
"""Sizes of batches that are checked."""
METADATA = "capsbench.json"
"""Of an exported program: the name of its extra file."""
MEANINGS = {
    "activations": "activations of the class capsules",
    "softmax": "probabilities of the classes",
    "shares": "shares of the classes, which sum to 1",
}


class ExportError(RuntimeError):
    """A network cannot be exported, or answers otherwise than in PyTorch."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: of the file.
        about: what goes in and what comes out, by topic; the file holds the same.
        difference: the largest between its answers and PyTorch's; None where nothing was there to run it.
    """

    path: Path
    about: dict[str, str]
    difference: float | None


class Answering(nn.Module):
    """Pictures as they are stored to the scores of classes and the poses of class capsules, in 32 bits.

    Args:
        classifier: its preparation and its network become one.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.network
        self.preparation = classifier.description.preparation
        self.scores = classifier.description.score

    def forward(
        self, pictures: Float[Tensor, "picture channel height width"]
    ) -> tuple[Float[Tensor, "picture class"], Float[Tensor, "picture class dim"]]:
        """Answer about pictures on the scale 0…255."""
        poses, activations = self.network(self.preparation(pictures))
        return self.scores(activations), poses


def export(classifier: Classifier, path: Path, format: Format = "onnx") -> Exported:
    """Write a network with the preparation of its images into one file, and run that against PyTorch.

    Args:
        classifier: the network; its weights become float32, on the CPU.
        path: of the file.
        format: "onnx", checked by onnxruntime if that is installed; or "torch_export", read by `torch.export.load`.

    Raises:
        ExportError: a part of the network cannot be exported, or the file's answers differ by more than `TOLERANCE`.
        ModuleNotFoundError: format is "onnx", and onnx or onnxscript is not installed.
        WriteError: the disk is full.
    """
    classifier.to("cpu").network.float()
    answering, about = Answering(classifier).eval(), describe(classifier)
    generator = torch.Generator().manual_seed(0)
    shape = classifier.description.preparation.shape
    batches = [torch.randint(256, (size, *shape), generator=generator).float() for size in BATCHES]
    with torch.no_grad(), written_atomically(path) as temporary:
        program = _program(answering, batches[1])
        if format == "onnx":
            _save_onnx(program, temporary, about)
            run = _onnxruntime(temporary)
        else:
            archive = io.BytesIO()
            torch.export.save(program, archive, extra_files={METADATA: json.dumps(about, ensure_ascii=False)})
            temporary.write_bytes(archive.getbuffer())
            run = torch.export.load(archive).module()
        difference = None if run is None else _difference(answering, run, batches)
        if difference is not None and not difference <= TOLERANCE:
            other = "format=torch_export" if format == "onnx" else "capsbench.load in Python"
            raise ExportError(
                f"{path} was not written: its answers differ from PyTorch's by {difference:.1g}, more than "
                f"{TOLERANCE:g}; take {other}"
            )
    return Exported(path, about, difference)


def describe(classifier: Classifier) -> dict[str, str]:
    """Say what an exported network takes and gives, by topic."""
    description = classifier.description
    preparation = description.preparation
    channels, height, width = preparation.shape
    colours = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
    scaled = "each picture to mean 0 and variance 1" if preparation.standardized else "them to [0, 1]"
    size = f"{width}×{height}"
    return {
        "input": f"{INPUT}: float32 (batch, {channels}, {height}, {width}), {colours}; batch is any number",
        "range": f"0 (black) to 255 (white), as in a file; the network itself scales {scaled}",
        "preparation": f"a picture as a viewer shows it, transparent parts on {preparation.background}; one of another "
        f"size is made {size} by {preparation.fit}",
        "class_names": json.dumps(description.class_names, ensure_ascii=False),
        "output": f"scores: float32 (batch, class), {MEANINGS[description.scores]}; poses: float32 (batch, class, dim)",
        "run": json.dumps(description.run, ensure_ascii=False),
        "capsbench": description.version,
    }


def _program(answering: Answering, pictures: Tensor) -> ExportedProgram:
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.export.export(answering, (pictures,), dynamic_shapes=({0: Dim.DYNAMIC},))
    except Exception as error:  # of many kinds: whatever a router does while it is traced
        raise ExportError(_in_one_line("for a batch of any size", error, "capsbench.load in Python")) from error


def _save_onnx(program: ExportedProgram, path: Path, about: dict[str, str]) -> None:
    import onnxscript  # noqa: F401  # PyTorch would say in several lines that it is missing

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # on every operator of torchvision's
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            optimize=False,  # it takes the 1e-9 that routers add for nothing
            input_names=[INPUT],
            output_names=OUTPUTS,
            external_data=False,
        )
    except Exception as error:
        raise ExportError(_in_one_line("to ONNX", error, "format=torch_export")) from error
    finally:
        logging.disable(before)
    assert made is not None
    made.model.metadata_props.update(about)
    for value in (*made.model.graph.inputs, *made.model.graph.outputs):
        assert value.shape is not None
        value.shape[0] = "batch"
    made.save(path)


def _onnxruntime(path: Path) -> Callable[[Tensor], tuple[Tensor, ...]] | None:
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pictures: tuple(map(torch.from_numpy, session.run(OUTPUTS, {INPUT: pictures.numpy()})))


def _difference(answering: Answering, run: Callable[[Tensor], tuple[Tensor, ...]], batches: list[Tensor]) -> float:
    worst = 0.0
    for pictures in batches:
        for ours, theirs in zip(answering(pictures), run(pictures), strict=True):
            scale = ours.abs().max().clamp_min(1)
            worst = max(worst, float((ours - theirs).abs().max() / scale))
    return worst


def _in_one_line(how: str, error: Exception, other: str) -> str:
    cause = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"this network cannot be exported {how}: {cause:.200}; take {other}"
