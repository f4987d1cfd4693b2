"""Checkpoints that are hostile, damaged or cut off: nothing in them is executed, believed or lost."""

import io
import os
import pickle
import random
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.runs import RunFolder
from capsbench.runs.train_and_test import find_checkpoint
from capsbench.training import CheckpointError, read_checkpoint
from capsbench.training.checkpoint import save_checkpoint

FLIPS = 200
Tally = Callable[..., None]


def content(step: int) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.arange(300.0)}, "step": step, "loops": {"done": [1, 2.5, "three", None]}}


def is_content(found: dict[str, Any], step: int) -> bool:
    weight = found["state_dict"].pop("weight")
    expected = content(step)
    return bool(weight.equal(expected["state_dict"].pop("weight"))) and found == expected


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder with a good checkpoint under each name."""
    folder = RunFolder(tmp_path / "run")
    for step, path in enumerate((folder.previous, folder.resume, folder.weights)):
        save_checkpoint(content(step), path)
    return folder


def in_archive(value: object) -> bytes:
    """An archive of torch.save, whose checksums are right."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def rewritten(whole: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with changed records, whose checksums are right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for record in old.infolist():
            new.writestr(record.filename, change(record.filename, old.read(record)))
    return stream.getvalue()


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", [pickle.dumps, in_archive])
@pytest.mark.parametrize("name", ["weights", "resume"])
def test_a_checkpoint_that_would_execute_something_is_refused_in_a_line(
    folder: RunFolder, caplog: pytest.LogCaptureFixture, form: Callable[[object], bytes], name: str
) -> None:
    """A checkpoint that would execute something: refused in a line, and nothing of it runs."""
    path: Path = getattr(folder, name)
    marker = folder.path / "executed"
    if name == "resume":
        folder.weights.unlink()
    path.write_bytes(form({"state_dict": Hostile(marker)}))
    assert find_checkpoint(folder) == (folder.resume if name == "weights" else folder.previous)
    assert not marker.exists()
    assert [record.message.count("\n") for record in caplog.records] == [0]
    assert caplog.messages[0].startswith(str(path))
    pickle.loads(pickle.dumps(Hostile(marker)))  # it would
    assert marker.exists()


def claim_more(name: str, record: bytes) -> bytes:
    """Let the tensor of 300 numbers claim to have 30,000."""
    few, many = (b"M" + number.to_bytes(2, "little") for number in (300, 30_000))
    assert not name.endswith("data.pkl") or record.count(few) == 2, "of the storage and of the shape"
    return record.replace(few, many) if name.endswith("data.pkl") else record


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "text": lambda whole: b"not a checkpoint",
    "cut": lambda whole: whole[: len(whole) // 2],
    "a byte short": lambda whole: whole[:-1],
    "a zip bomb": lambda whole: rewritten(whole, lambda _, record: record + bytes(10**7), zipfile.ZIP_DEFLATED),
    "a tensor that claims more": lambda whole: rewritten(whole, claim_more),
    "another zip": lambda whole: rewritten(whole, lambda _, record: b"text"),
    "no dictionary": lambda whole: in_archive([1, 2]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(
    folder: RunFolder, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """Cut off, no archive, a zip bomb, a claim of a huge tensor: it is set aside, and the one before is taken."""
    damaged = DAMAGES[damage](folder.weights.read_bytes())
    folder.weights.write_bytes(damaged)
    assert find_checkpoint(folder) == folder.resume
    assert [record.message.count("\n") for record in caplog.records] == [0]
    assert caplog.messages[0].startswith(f"{folder.weights} is ")
    assert folder.weights.with_name("last.ckpt.aside").read_bytes() == damaged, "nothing is lost"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_opened(folder: RunFolder, tmp_path: Path, kind: str) -> None:
    """A link, a pipe or a folder in a checkpoint's place: neither read nor written through."""
    secret = tmp_path / "elsewhere.ckpt"
    folder.resume.rename(secret)
    folder.weights.unlink()
    {"link": lambda path: path.symlink_to(secret), "pipe": os.mkfifo, "folder": Path.mkdir}[kind](folder.resume)
    assert find_checkpoint(folder) == folder.previous
    save_checkpoint(content(9), folder.resume, folder.previous)
    assert is_content(read_checkpoint(folder.resume), 9)
    assert is_content(read_checkpoint(secret), 1)


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path, folder: RunFolder, tally: Tally) -> None:
    """A flipped bit anywhere in a checkpoint: noticed, or all that is read is what was written."""
    whole = folder.resume.read_bytes()
    rng = random.Random(0)
    noticed = 0
    for number in range(FLIPS):
        place = rng.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(flipped)
        try:
            found = read_checkpoint(path)
        except CheckpointError:
            noticed += 1
        else:
            assert is_content(found, 1), f"bit {place} of {8 * len(whole)}"
    assert 0 < noticed < FLIPS
    tally(FLIPS, FLIPS, f"{noticed} noticed")


def test_every_flipped_bit_of_a_tensor_is_noticed(tmp_path: Path, folder: RunFolder, tally: Tally) -> None:
    """A flipped bit in a tensor of a checkpoint: noticed; torch.load alone gives other numbers."""
    whole = folder.resume.read_bytes()
    start = whole.index(torch.arange(300.0).numpy().tobytes())
    for number, bit in enumerate(random.Random(0).sample(range(8 * 1200), FLIPS)):
        flipped = bytearray(whole)
        flipped[start + bit // 8] ^= 1 << bit % 8
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(flipped)
        assert not torch.load(path, weights_only=True)["state_dict"]["weight"].equal(torch.arange(300.0))
        with pytest.raises(CheckpointError, match="checksum"):
            read_checkpoint(path)
    tally(FLIPS, FLIPS)


@pytest.mark.parametrize(
    ("call", "nth", "left"),
    [("torch.save", 1, 1), ("os.replace", 1, 1), ("os.fsync", 1, 1), ("os.replace", 2, 1), ("os.replace", 3, 2)],
)
def test_killed_while_it_saves(folder: RunFolder, call: str, nth: int, left: int) -> None:
    """kill -9 at each step of writing a checkpoint: the last whole one is there."""
    folder.weights.unlink()
    module, name = {"os": os, "torch": torch}[call.partition(".")[0]], call.partition(".")[2]
    original, calls = getattr(module, name), iter(range(1, 100))

    def die(*arguments: Any, **options: Any) -> Any:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    child = os.fork()
    if child == 0:
        setattr(module, name, die)
        save_checkpoint(content(2), folder.resume, folder.previous)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if left == 2 else -signal.SIGKILL)
    found = find_checkpoint(folder)
    assert found is not None
    assert is_content(read_checkpoint(found), left)
    save_checkpoint(content(3), folder.resume, folder.previous)
    assert is_content(read_checkpoint(folder.resume), 3)
    assert is_content(read_checkpoint(folder.previous), left)
    assert not list(folder.path.rglob("*.tmp"))
