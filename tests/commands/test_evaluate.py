"""A run that holds images out to tune on leaves the test set alone until it is asked for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capsbench.commands.train import job
from capsbench.data import Digits, LabelledImages
from capsbench.runs import Result, RunFolder

Command = Callable[..., Path]


@pytest.fixture
def hidden_test_set() -> Iterator[pytest.MonkeyPatch]:
    """A test set that raises when it is read, until undo()."""
    load = Digits.load

    def refuse(self: Digits, split: str) -> LabelledImages:
        assert split == "train", "the test set was read"
        return load(self, split)

    hidden = pytest.MonkeyPatch()
    hidden.setattr(Digits, "load", refuse)
    yield hidden
    hidden.undo()


def folders(outputs: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(outputs.rglob("result.json"))]


def test_the_test_set_is_read_when_it_is_asked_for(
    capsbench: Command, hidden_test_set: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("data.val_fraction=0.2", "data.subset=64", "decoder=deconv", "trainer.max_epochs=1", "seed=1,2")
    capsbench("train", "-m", *asked, "trainer.enable_progress_bar=false")
    first, second = folders(Path("outputs"))
    result = Result.load(first.path)
    assert (result.watched_split, result.test_examples) == ("val", 0)
    assert not any(name.startswith("test/") for row in (result.metrics, *result.history) for name in row)
    assert (first.pictures / "reconstructions.png").is_file()
    accuracy = 100 * result.metrics["val/accuracy"]
    assert f"{first}: val accuracy {accuracy:.2f} %" in capsys.readouterr().out

    capsbench("evaluate", f"run={first}", "split=val")
    assert f"{first}: val accuracy {accuracy:.2f} %" in capsys.readouterr().out
    again = json.loads(first.evaluation("val").read_text())
    assert again["metrics"] == pytest.approx({name: result.metrics[name] for name in again["metrics"]})
    assert again["confusion"] == result.confusion["val"]
    assert again["examples"] == 288
    capsbench("evaluate", f"run={first}", "split=train")
    assert json.loads(first.evaluation("train").read_text())["examples"] == 64
    capsbench("analyze", "reconstructions", f"run={first}")

    hidden_test_set.undo()
    capsbench("evaluate", "run=outputs", "split=test")
    assert [folder.evaluation("test").is_file() for folder in (first, second)] == [True, True]
    measured = json.loads(first.evaluation("test").read_text())
    assert measured["examples"] == sum(map(sum, measured["confusion"])) == 360
    assert set(measured["metrics"]) == {"test/accuracy", "test/loss", "test/reconstruction"}
    assert Result.load(first.path) == result


def test_the_test_accuracy_of_a_run_is_found_again(capsbench: Command) -> None:
    (folder,) = folders(capsbench("train", "trainer.max_epochs=1", "data.subset=64", "data.eval_batch_size=50"))
    capsbench("evaluate", f"run={folder}")
    result, found = Result.load(folder.path), json.loads(folder.evaluation("test").read_text())
    assert found["metrics"] == pytest.approx({name: result.metrics[name] for name in found["metrics"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "run must be given: run=DIR"),
        (("run=outputs", "split=tets"), "split must be one of train, val, test, got tets"),
        (("run=outputs", "split=val"), "split=val needs a run with a validation split"),
        (("run=nowhere",), "nowhere is not a run's folder"),
    ],
)
def test_what_cannot_be_evaluated(capsbench: Command, words: tuple[str, ...], said: str) -> None:
    capsbench("train", "trainer=smoke", "data.subset=64")
    with pytest.raises(SystemExit) as error:
        capsbench("evaluate", *words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_validation_accuracy_is_a_sweeps_objective(capsbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[float] = []
    monkeypatch.setattr("capsbench.commands.train.job", lambda config: returned.append(job(config)))
    outputs = capsbench("train", "trainer=smoke", "data.val_fraction=0.2", "data.subset=64")
    (folder,) = folders(outputs)
    assert returned == [Result.load(folder.path).metrics["val/accuracy"]]
