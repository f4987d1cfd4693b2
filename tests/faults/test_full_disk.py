"""A disk that is full: files keep their old content, nothing is left over, and the error names the file."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from capsbench.commands import cli
from capsbench.data.files import WriteError, written_atomically
from capsbench.launch.errors import describe
from capsbench.runs import RunFolder
from capsbench.training import MetricsFile

ROOT = Path(__file__).parents[2]
RUN = ("trainer.max_epochs=2", "data.subset=64", "trainer.enable_progress_bar=false", "decoder=deconv")
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from capsbench.commands import cli
cli.main(sys.argv[2:])
"""
"""A command whose files cannot grow beyond so many bytes: to it the disk is full."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a finished run with a report, which does not count as a smoke run."""
    root = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cli.main(["train", *RUN])
        cli.main(["report", "experiment=adhoc"])
    return root / "outputs"


def limited(most: int, *words: str, cwd: Path) -> str:
    """What a command says that cannot write larger files."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MPLCONFIGDIR": str(cwd / "matplotlib")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python would cut its own files short, and read them again
    command = [sys.executable, "-c", LIMITED, str(most), *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_report_that_does_not_fit(outputs: Path) -> None:
    before = contents(outputs)
    for most, name in ((100, r"adhoc/report/table.md"), (100_000, "adhoc/report.html")):
        line = limited(most, "report", "experiment=adhoc", cwd=outputs.parent)
        assert f"{name} could not be written: File too large" in line
    after = contents(outputs)
    assert after.keys() == before.keys(), "no temporary file is left"
    assert after["adhoc/report.html"] == before["adhoc/report.html"]
    assert after["adhoc/report/table.md"] == before["adhoc/report/table.md"]


def test_tables_of_a_page_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("x" * 5_000)
    line = limited(1_000, "report", "readme=page.md", cwd=tmp_path)
    assert "page.md could not be written: File too large" in line
    assert (tmp_path / "page.md").read_text() == "x" * 5_000
    assert not (tmp_path / "page.md.tmp").exists()


@pytest.mark.faults
@pytest.mark.parametrize(("most", "name"), [(8, "config.yaml"), (500, "config.yaml"), (20_000, "checkpoints/")])
def test_a_run_that_does_not_fit_goes_on_later(
    capsbench: Callable[..., Path], tmp_path: Path, most: int, name: str
) -> None:
    line = limited(most, "train", *RUN, cwd=tmp_path)
    assert name in line
    assert not list(tmp_path.rglob("*.tmp"))
    outputs = capsbench("train", *RUN, "retry_failed=true")
    assert len(list(outputs.rglob("result.json"))) == 1


def log(logger: MetricsFile, epoch: int, **more: float) -> None:
    logger.log_metrics({"epoch": epoch, "loss": 1.0 / (epoch + 1), **more}, step=epoch)
    logger.save()


def test_metrics_are_whole_after_each_epoch_and_those_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(str(tmp_path), name="", version="")
    log(logger, 0)
    log(logger, 1, accuracy=0.5)
    read = pd.read_csv(path)
    assert read["epoch"].tolist() == [0, 1]
    assert read["accuracy"].isna().tolist() == [True, False]
    before = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match=r"metrics\.csv could not be written: No space left on device"):
            log(logger, 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"metrics.csv": before}
    log(logger, 3)
    assert pd.read_csv(path)["epoch"].tolist() == [0, 1, 2, 3]


def test_metrics_of_an_earlier_session_stay_until_they_are_replaced(tmp_path: Path) -> None:
    log(MetricsFile(str(tmp_path), name="", version=""), 0)
    later = MetricsFile(str(tmp_path), name="", version="")
    _ = later.experiment
    assert (tmp_path / "metrics.csv").is_file()
    log(later, 5)
    assert pd.read_csv(tmp_path / "metrics.csv")["epoch"].tolist() == [5]


def full(*_: Any) -> None:
    raise OSError(28, os.strerror(28))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk, and not in every container; RLIMIT_FSIZE is tested above")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(small_disk: Path) -> None:
    path = small_disk / "report.html"
    path.write_text("old")
    with pytest.raises(WriteError) as failed, written_atomically(path) as temporary:
        temporary.write_text("x" * 200_000)
    assert describe(failed.value) == (
        f"{path} could not be written: No space left on device; output_dir and data_dir say where files go"
    )
    assert {path.name: path.read_text() for path in small_disk.iterdir()} == {"report.html": "old"}


def test_what_failed_is_told_where_it_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    RunFolder(tmp_path).record("metrics.csv could not be written", "Traceback", failed=True)
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"source"), written_atomically(tmp_path / "copy"):
        (tmp_path / "source").read_text()
    assert not list(tmp_path.iterdir())


def test_limits_work_here(tmp_path: Path) -> None:
    """Without this the tests above would say nothing."""
    code = "import resource,json; print(json.dumps(resource.getrlimit(resource.RLIMIT_FSIZE)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[1] in (-1, resource.RLIM_INFINITY)
