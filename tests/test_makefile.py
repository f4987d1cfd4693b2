"""The targets of the Makefile, with a `capsbench` that only tells what it was asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from capsbench.reports.paper import recipes

ROOT = Path(__file__).parents[1]
TARGETS = ("fig4", "fig5", "table2", "table3", "table5", "table6")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(folder: Path, *arguments: str, failing: str = "nothing", code: int = 1) -> tuple[int, list[str]]:
    """Make's exit code, and the commands that it ran; those in which `failing` stands fail with `code`."""
    shutil.copy(ROOT / "Makefile", folder)
    installed = folder / ".venv" / "installed"
    installed.parent.mkdir(exist_ok=True)
    for path in (folder / "pyproject.toml", folder / "constraints.txt", installed):
        path.touch()
    command = folder / "bin" / "capsbench"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\ncase "$*" in *{failing}*) exit {code};; esac\n')
    command.chmod(0o755)
    made = subprocess.run(["make", f"BIN={command.parent}", *arguments], cwd=folder, capture_output=True, check=False)
    return made.returncode, (folder / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("target", "installed"),
    [("demo", ["install -c constraints.txt -e ."])]
    + [
        (target, ["install -c constraints.txt -e .", "install -c constraints.txt -e .[dev]"])
        for target in ("setup", "test", "lint", "types", "format")
    ],
)
def test_a_target_installs_what_it_needs(tmp_path: Path, target: str, installed: list[str]) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("pip", "capsbench", "pytest", "ruff", "mypy"):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.log\n')
        command.chmod(0o755)
    (tmp_path / ".venv").mkdir()
    make = ["make", f"BIN={tmp_path}/bin", "PYTHON=true", target]
    printed = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert (tmp_path / "pip.log").read_text().splitlines() == installed
    assert "6 GB" in printed.partition("pip")[0], "the size is said before"
    subprocess.run(make, cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "pip.log").read_text().splitlines() == installed, "once"


def test_a_target_trains_and_reports(tmp_path: Path) -> None:
    assert make(tmp_path, "fig4") == (
        0,
        ["train -m experiment=fig4 seed=1,2,3", "report experiment=fig4"],
    )


def test_a_failed_run_keeps_no_report_and_no_other_target_from_its_work(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "paper", failing="train -m experiment=table3")
    assert code != 0
    assert {f"report experiment={name}" for name in TARGETS} <= set(asked)
    assert {f"train -m experiment={name} seed=1,2,3" for name in TARGETS} <= set(asked)
    assert {"analyze equivariance run=outputs/table3", "benchmark table1"} <= set(asked)


def test_a_signal_ends_a_target_at_once(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "table4", failing="train", code=130)
    assert code != 0
    assert asked == ["train -m experiment=table3 seed=1,2,3"]


def test_paper_succeeds_where_everything_does(tmp_path: Path) -> None:
    assert make(tmp_path, "paper")[0] == 0


EVIDENCE = ("factorial", "em_start", "table3_authors", "fig4", "fig4_authors")


def test_evidence_is_a_queue_that_goes_on_after_failures(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "evidence", "RUNS=elsewhere", failing="experiment=factorial")
    assert code != 0
    assert [line.split()[2] for line in asked] == [f"experiment={name}" for name in EVIDENCE]
    assert all(" seed=1,2,3 output_dir=elsewhere " in line and "launcher" not in line for line in asked)


def test_evidence_stops_at_a_signal(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "evidence", failing="experiment=em_start", code=130)
    assert code != 0
    assert len(asked) == 2


def test_evidence_trains_several_runs_at_once(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "evidence", "JOBS=2")
    assert code == 0
    assert all(" output_dir=outputs launcher=local hydra.launcher.n_jobs=2 " in line for line in asked)


@pytest.mark.parametrize(("arguments", "seeds"), [([], "1"), (["SEEDS=4,5"], "4,5")])
def test_smoke(tmp_path: Path, arguments: list[str], seeds: str) -> None:
    code, (train, report) = make(tmp_path, "table2", "SMOKE=1", *arguments)
    assert code == 0
    assert train.startswith(f"train -m experiment=table2 seed={seeds} trainer=smoke ")
    assert train.endswith(" output_dir=outputs/smoke")
    assert report == "report experiment=table2 output_dir=outputs/smoke"


@pytest.mark.parametrize("target", TARGETS)
def test_the_authors_protocol(tmp_path: Path, target: str) -> None:
    _, asked = make(tmp_path, target, "PROTOCOL=authors")
    assert asked == [f"train -m experiment={target}_authors seed=1,2,3", f"report experiment={target}_authors"]


def test_table_4_follows_the_protocol(tmp_path: Path) -> None:
    _, asked = make(tmp_path, "table4", "PROTOCOL=authors", "SEEDS=1")
    assert asked == [
        "train -m experiment=table3_authors seed=1",
        "analyze reconstructions run=outputs/table3_authors",
        "analyze equivariance run=outputs/table3_authors",
        "report experiment=table3_authors",
    ]


def test_there_are_two_protocols(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "table2", "PROTOCOL=author"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "PROTOCOL must be paper or authors, got author" in made.stderr


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_table_2_may_train_every_system_with_its_own_recipe(tmp_path: Path, protocol: str) -> None:
    arguments = ("table2", "SYSTEMS=all", "SEEDS=1", f"PROTOCOL={protocol}")
    code, asked = make(tmp_path, *arguments, failing="experiment=table2_nair")
    own = "table2_authors" if protocol == "authors" else "table2"
    assert code != 0
    assert asked == [
        *(f"train -m experiment={name} seed=1" for name in (own, *recipes("table2"))),
        f"report experiment={own} as_published=true",
    ]


def test_some_systems_of_table_2_in_a_smoke_run(tmp_path: Path) -> None:
    code, asked = make(tmp_path, "table2", "SYSTEMS=nair hitnet", "SMOKE=1")
    assert code == 0
    assert [line.split()[2] for line in asked[:-1]] == [f"experiment=table2{name}" for name in ("", "_nair", "_hitnet")]
    assert all(line.endswith(" data.absent=stand_in output_dir=outputs/smoke") for line in asked[:-1])
    assert asked[-1] == "report experiment=table2 output_dir=outputs/smoke as_published=true"


def test_systems_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "table2", "SYSTEMS=nair capsnet"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert 'SYSTEMS must be all or some of "sabour_fashion ' in made.stderr


@pytest.mark.parametrize("off", ["SMOKE=0", "SMOKE="])
def test_no_smoke(tmp_path: Path, off: str) -> None:
    _, (train, _) = make(tmp_path, "table2", off)
    assert train == "train -m experiment=table2 seed=1,2,3"
