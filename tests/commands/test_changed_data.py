"""One's own data is changed, or is gone, after a run was finished."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capsbench.runs import Result

Run = Callable[..., Path]
RUN = ("data=image_folder", "data.path=own", "data.batch_size=16", "trainer.max_epochs=1")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    for number, image in enumerate(images):
        folder = tmp_path / "own" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "own"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def test_a_run_does_not_count_as_finished_with_other_data(
    capsbench: Run, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "a" / "0.png").write_bytes(b"no picture")
    outputs = capsbench("train", *RUN, "data.skip_unreadable=true")
    (path,) = outputs.rglob("result.json")
    result = Result.load(path.parent)
    assert result.train_examples + result.test_examples == 39
    assert result.data_files["files"] == 40
    assert (result.data_files["unreadable"], result.data_files["first_unreadable"]) in (
        (1, "train: a/0.png"),
        (1, "test: a/0.png"),
    )
    asked = (*RUN, "data.skip_unreadable=true")
    capsys.readouterr()
    capsbench("status", *asked)
    assert "other data" not in capsys.readouterr().out

    (own / "a" / "2.png").unlink()
    Image.new("L", (16, 16)).save(own / "b" / "3.png")
    said = "files: 1 removed, 1 changed, such as a/2.png"
    anew = f"rm -r {path.parent.relative_to(Path.cwd())}, then the same command"
    with pytest.raises(SystemExit, match=said) as refused:
        capsbench("train", *asked)
    assert refused.value.code == 1
    assert anew in str(refused.value)
    with pytest.raises(SystemExit, match="1 of 1 runs were finished before their data changed"):
        capsbench("train", "-m", *asked)
    assert said in (printed := capsys.readouterr().out)
    assert anew in printed
    capsbench("status", *asked)
    assert f"with other data ({said})" in capsys.readouterr().out
    capsbench("status", *asked, "--json")
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["state"], run["data_changed"]) == ("done", said)

    capsbench("evaluate", f"run={path.parent}")
    assert f"{path.parent} was trained before its data changed ({said})" in capsys.readouterr().out

    own.rename(own.with_name("moved"))
    for command in (("status", *asked), ("train", *asked), ("report", "experiment=adhoc")):
        capsbench(*command)
    assert "other data" not in capsys.readouterr().out
