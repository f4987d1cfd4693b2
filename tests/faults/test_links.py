"""Links in a run's folder: nothing is written through one, and nothing is published from one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from capsbench.commands import cli
from capsbench.data.files import WriteError, written_atomically
from capsbench.launch.protocols import protocol
from capsbench.reports.comparison import Comparison
from capsbench.reports.html import write_page
from capsbench.reports.publish import publish
from capsbench.runs import RunFolder, State

Command = Callable[..., Path]
RUN = ("trainer=smoke", "data.subset=64", "decoder=deconv", "trainer.enable_progress_bar=false")
SECRET = "sesame, open"
WRITTEN_IN_TRAINING = [
    "config.yaml", "config.yaml.tmp", "identity.json", "metrics.csv", "metrics.csv.tmp", "progress.json",
    "session.json", "run.lock", "error.txt", "result.json.tmp", "checkpoints/last.ckpt.tmp",
    "checkpoints/resume.ckpt.tmp", "pictures/reconstructions.png", "pictures/reconstructions.png.tmp",
    "checkpoints", "pictures", "wandb",
]  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a finished run."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cli.main(["train", *RUN])
    return root / "outputs"


@pytest.fixture
def finished(template: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, below outputs in the current folder."""
    shutil.copytree(template, tmp_path / "outputs")
    (result,) = (tmp_path / "outputs").rglob("result.json")
    return RunFolder(result.parent)


@pytest.fixture(params=["a file", "nothing"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What a link points to: a file or folder of the user's own, or a place where there is nothing yet."""
    (tmp_path / "home").mkdir()
    if request.param == "a file":
        (tmp_path / "home" / "secret").write_text(SECRET)
    return tmp_path / "home" / "secret"


def plant(folder: RunFolder, name: str, target: Path) -> Path:
    """Put a link into a run's folder."""
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


def at_home(target: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in target.parent.rglob("*") if path.is_file()}


def refused(capsbench: Command, capsys: pytest.CaptureFixture[str], link: Path, *words: str) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        capsbench(*words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert f"{link} is a link, and nothing is written through or copied from one" in line


@pytest.mark.parametrize("name", ["config.yaml", "run.lock", "checkpoints/last.ckpt.tmp"])
def test_nothing_is_trained_through_a_link(
    finished: RunFolder, target: Path, capsbench: Command, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.rmtree(finished.path)
    before = at_home(target)
    link = plant(finished, name, target)
    refused(capsbench, capsys, link.relative_to(Path.cwd()), "train", *RUN)
    assert at_home(target) == before


@pytest.mark.parametrize("name", WRITTEN_IN_TRAINING)
def test_a_folder_with_a_link_is_not_locked_to_train(target: Path, tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    before = at_home(target)
    plant(folder, name, target)
    with pytest.raises(ValueError, match=rf"{name} is a link"), folder.locked():
        pytest.fail("a run could be trained here")
    assert at_home(target) == before


def test_links_that_wandb_makes_in_its_folder_are_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.wandb / "run-1").mkdir(parents=True)
    (folder.wandb / "latest-run").symlink_to("run-1")
    with folder.locked():
        assert folder.session.is_file()


def test_nothing_is_trained_into_a_linked_folder(
    finished: RunFolder, capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.rmtree(finished.path)
    (tmp_path / "home").mkdir()
    link = plant(finished, "checkpoints", tmp_path / "home")
    refused(capsbench, capsys, link.relative_to(tmp_path), "train", *RUN)
    assert not list((tmp_path / "home").iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("equivariance.json", ("analyze", "equivariance", "examples=100", "curve_examples=10", "curve_steps=3")),
        ("equivariance.json.tmp", ("analyze", "equivariance", "examples=100", "curve_examples=10", "curve_steps=3")),
        ("pictures/reconstructions.png", ("analyze", "reconstructions")),
        ("pictures", ("analyze", "reconstructions")),
        ("pictures-7", ("analyze", "reconstructions", "classes=[7]")),
        ("evaluation-test.json", ("evaluate",)),
    ],
)
def test_nothing_is_measured_through_a_link(
    finished: RunFolder,
    target: Path,
    capsbench: Command,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: tuple[str, ...],
) -> None:
    before = at_home(target)
    refused(capsbench, capsys, plant(finished, name, target), *words, f"run={finished}")
    assert at_home(target) == before


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints", "result.json"])
def test_a_run_whose_files_are_elsewhere_is_not_read(
    finished: RunFolder, capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    shutil.move(finished.path / name, tmp_path / "elsewhere")
    refused(capsbench, capsys, plant(finished, name, tmp_path / "elsewhere"), "evaluate", f"run={finished}")


@pytest.mark.parametrize("name", ["evaluation-test.json", "pictures/reconstructions.png", "pictures", "error.txt"])
def test_nothing_is_published_from_a_link(template: Path, tmp_path: Path, name: str) -> None:
    folder = unsmoked(template, tmp_path)
    outputs = tmp_path / "outputs"
    if name == "error.txt":  # of another run, which failed
        failed = RunFolder(folder.path.with_name("seed2-0"))
        shutil.copytree(folder.path, failed.path)
        failed.result.unlink()
        folder = failed
    home = tmp_path / "home"
    home.mkdir()
    for secret in ("secret", "reconstructions.png"):
        (home / secret).write_text(SECRET)
    plant(folder, name, home if name == "pictures" else home / "secret")
    with pytest.raises(ValueError, match=rf"{name} is a link, and nothing is written through or copied from one"):
        publish(Comparison.of(outputs / "adhoc", protocol), outputs, protocol)
    assert not (outputs / "published").exists()
    assert SECRET not in str(State.of(folder).cause)


def test_the_command_says_so(
    template: Path, capsbench: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    link = plant(unsmoked(template, tmp_path), "pictures/reconstructions.png", tmp_path / "secret")
    refused(capsbench, capsys, link.relative_to(tmp_path), "report", "experiment=adhoc", "publish=true")


def unsmoked(template: Path, root: Path) -> RunFolder:
    """A copy of the finished run, as if it had been a whole one."""
    shutil.copytree(template, root / "outputs")
    (path,) = (root / "outputs").rglob("result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"smoke": False}))
    return RunFolder(path.parent)


def test_a_page_has_no_picture_from_a_link(template: Path, tmp_path: Path) -> None:
    folder, page = unsmoked(template, tmp_path), tmp_path / "page.html"
    elsewhere = tmp_path / "elsewhere.png"
    for shown in (True, False):
        write_page(page, "Page", [Comparison.of(tmp_path / "outputs" / "adhoc", protocol)], interactive=False)
        assert ('alt="reconstructions of' in page.read_text()) is shown
        assert "pose tour" in page.read_text(), "the other pictures are there"
        if shown:
            shutil.move(folder.pictures / "reconstructions.png", elsewhere)
            plant(folder, "pictures/reconstructions.png", elsewhere)


def test_status_opens_no_lock_that_is_a_link(finished: RunFolder, target: Path) -> None:
    finished.result.unlink()
    before = at_home(target)
    plant(finished, "run.lock", target)
    assert State.of(finished).name == "interrupted"
    assert at_home(target) == before


def test_a_linked_output_dir_is_the_users_own_choice(capsbench: Command, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "large disk")
    capsbench("train", *RUN)
    (result,) = (tmp_path / "large disk").rglob("result.json")
    capsbench("evaluate", f"run={tmp_path / 'outputs' / result.parent.relative_to(tmp_path / 'large disk')}")
    assert (result.parent / "evaluation-test.json").is_file()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.tmp"])
def test_a_write_replaces_a_link_and_leaves_its_target_alone(target: Path, tmp_path: Path, name: str) -> None:
    before = at_home(target)
    (tmp_path / name).symlink_to(target)
    with written_atomically(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()
    assert not os.path.lexists(tmp_path / "a.txt.tmp")
    assert at_home(target) == before


def test_a_write_that_fails_leaves_the_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), written_atomically(tmp_path / "a.txt") as path:
        path.write_text(str(1 / 0))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}
    with pytest.raises(WriteError, match=r"missing/a\.txt could not be written: No such file"):
        written_atomically(tmp_path / "missing" / "a.txt").__enter__()
