"""What one's own files hold, and what has changed."""

import os
from pathlib import Path

import pytest

from capsbench.data import DataError, digest
from capsbench.data.digest import contents_of


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "own" / "a").mkdir(parents=True)
    paths = [tmp_path / "own" / "a" / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i] * 10))
        os.utime(path, (1, 1))
    return paths


def test_the_digest_is_of_names_sizes_and_contents_alone(files: list[Path], tmp_path: Path) -> None:
    before = contents_of(tmp_path / "own", files)
    os.utime(files[0], (5, 5))
    assert contents_of(tmp_path / "own", files[::-1]).digest == before.digest
    (tmp_path / "own").rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / "a" / path.name for path in files]
    assert contents_of(tmp_path / "moved", moved).record == before.record
    assert before.record == {"files": 4, "bytes": 40, "digest": before.digest}
    assert before.changed_since(before.record) is None


def test_what_differs_is_said_in_a_line(files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "own"
    before = contents_of(root, files).record
    files[1].write_bytes(b"9" * 10)
    new = [root / "a" / f"new{i}.png" for i in range(2)]
    for path in new:
        path.touch()
    after = contents_of(root, [*files[:3], *new])
    assert after.changed_since(before) == "files: 2 added, 1 removed, 1 changed, such as a/1.png"
    unknown = {"files": 1200, "bytes": 5000, "digest": "0123456789abcdef"}
    assert after.changed_since(unknown) == "1,200 files of 5,000 bytes then, 5 of 30 bytes now"


def test_files_are_read_once(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = digest._digest

    def noted(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(digest, "_digest", noted)
    first = contents_of(tmp_path / "own", files)
    assert len(read) == 4
    assert contents_of(tmp_path / "own", files) == first
    assert len(read) == 4
    files[2].write_bytes(b"2" * 10)
    contents_of(tmp_path / "own", files)
    assert read[4:] == ["2.png"]
    contents_of(tmp_path / "own", files)
    assert read[5:] == ["2.png"], "it was changed so lately that it may change again within a tick of its clock"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a/0.png": [10, 1000000000]}', b"\xff"])
def test_a_damaged_list_of_files_is_made_anew(files: list[Path], tmp_path: Path, caches: Path, content: bytes) -> None:
    before = contents_of(tmp_path / "own", files)
    for path in (caches / "capsbench" / "digests").glob("*.json"):
        path.write_bytes(content)
    assert contents_of(tmp_path / "own", files) == before


def test_a_cache_that_cannot_be_written_costs_time_alone(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "file" / name)
    assert contents_of(tmp_path / "own", files).record["files"] == 4


def test_a_file_that_is_gone_is_named(files: list[Path], tmp_path: Path) -> None:
    files[3].unlink()
    with pytest.raises(DataError, match=r"3\.png cannot be read: No such file"):
        contents_of(tmp_path / "own", files)
