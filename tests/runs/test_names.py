"""Names of sweeps."""

from pathlib import Path

import pytest

from capsbench.runs import NamedRuns, RunFolder, named_folders


def folders(outputs: Path, *seeds: int) -> list[RunFolder]:
    return [RunFolder(outputs / "demo" / "digits" / "capsnet" / "fm" / f"seed{seed}-0") for seed in seeds]


def test_a_name_lists_its_runs_each_once(tmp_path: Path) -> None:
    monday = NamedRuns(tmp_path, "monday")
    monday.add(folders(tmp_path, 1, 2))
    monday.add(folders(tmp_path, 2, 3))
    assert monday.folders == folders(tmp_path, 1, 2, 3)
    NamedRuns(tmp_path, "tuesday").add(folders(tmp_path, 4, 1))
    assert named_folders(tmp_path, ["tuesday", "monday"]) == folders(tmp_path, 4, 1, 2, 3)


def test_a_list_moves_with_its_runs(tmp_path: Path) -> None:
    NamedRuns(tmp_path / "here", "monday").add(folders(tmp_path / "here", 1))
    (tmp_path / "here").rename(tmp_path / "there")
    assert named_folders(tmp_path / "there", ["monday"]) == folders(tmp_path / "there", 1)


def test_a_name_that_no_run_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run in .* has the name monday; there are: no names yet"):
        named_folders(tmp_path, ["monday"])
    NamedRuns(tmp_path, "tuesday").add(folders(tmp_path, 1))
    with pytest.raises(ValueError, match="there are: tuesday"):
        named_folders(tmp_path, ["monday"])


@pytest.mark.parametrize("name", ["", "../x", "a b", "mon/day", "montag!", "é", "x" * 101])
def test_a_name_is_letters_digits_and_dashes(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name must be 1 to 100 letters, digits, - and _, such as name=monday, got"):
        NamedRuns(tmp_path, name)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[", "null"])
def test_a_file_that_is_no_list(tmp_path: Path, content: str) -> None:
    monday = NamedRuns(tmp_path, "monday")
    monday.path.parent.mkdir()
    monday.path.write_text(content)
    with pytest.raises(ValueError, match=r"monday\.json .*; delete it and give its commands again"):
        _ = monday.folders
