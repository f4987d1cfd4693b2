"""Downloads from a server on this machine: atomic, and verified by their checksums."""

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from capsbench.data import DataError
from capsbench.data.files import DataFile, FileSet

CONTENT = bytes(range(256)) * 400
PACKED = gzip.compress(CONTENT)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `pages` by path; pauses in the middle of those in `slow`; counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.slow: set[str] = set()
        self.requests: list[str] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        page = self.server.pages.get(self.path[1:])
        if page is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        half = len(page) // 2
        self.wfile.write(page[:half])
        self.wfile.flush()
        if self.path[1:] in self.server.slow:
            time.sleep(5)
        self.wfile.write(page[half:])

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.pages["x.bin.gz"] = PACKED
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def files(server: Server) -> FileSet:
    return FileSet("set", (DataFile("x.bin", md5(CONTENT), (server.url("x.bin.gz"),), md5(PACKED), 0.1),))


def test_fetch_and_read(files: FileSet, tmp_path: Path) -> None:
    place = files.fetch(tmp_path)
    assert place == tmp_path / "set"
    assert files.read(place, "x.bin") == CONTENT


def test_what_is_here_is_not_fetched_again(files: FileSet, server: Server, tmp_path: Path) -> None:
    files.fetch(tmp_path)
    files.fetch(tmp_path)
    assert server.requests == ["/x.bin.gz"]


def test_a_copy_in_another_place_will_do(files: FileSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.bin").write_bytes(CONTENT)
    assert replace(files, elsewhere=("other",)).fetch(tmp_path) == tmp_path / "other"
    assert server.requests == []


def test_the_next_address_is_tried(files: FileSet, server: Server, tmp_path: Path) -> None:
    file = replace(files.files[0], urls=(server.url("gone"), server.url("x.bin.gz")))
    assert FileSet("set", (file,)).fetch(tmp_path)


@pytest.mark.parametrize(
    "page",
    [b"<!doctype html><title>Sign in</title>", PACKED[:-100], PACKED[:50] + b"?" + PACKED[51:], b""],
    ids=["page", "part", "damaged", "empty"],
)
def test_something_else_at_the_address_leaves_nothing(
    files: FileSet, server: Server, tmp_path: Path, page: bytes
) -> None:
    server.pages["x.bin.gz"] = page
    with pytest.raises(DataError, match=r"set is not here and could not be downloaded: .*Looked in: .*CAPSBENCH_DATA"):
        files.fetch(tmp_path)
    assert list(tmp_path.rglob("*.*")) == []
    server.pages["x.bin.gz"] = PACKED
    assert files.read(files.fetch(tmp_path), "x.bin") == CONTENT


def test_no_server_is_one_line(tmp_path: Path) -> None:
    files = FileSet("set", (DataFile("x.bin", None, ("http://127.0.0.1:9/x.bin",), None, 0.1),))
    with pytest.raises(DataError) as error:
        files.fetch(tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(files: FileSet, tmp_path: Path) -> None:
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="could not be downloaded"):
        files.fetch(tmp_path)


def test_a_full_disk_leaves_nothing(files: FileSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(DataError, match="No space left on device"):
        files.fetch(tmp_path)
    assert files.find(tmp_path) is None


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_gives_its_member_and_goes(server: Server, tmp_path: Path) -> None:
    server.pages["x.zip"] = zipped(wanted=CONTENT, other=b"")
    files = FileSet("set", (DataFile("wanted", None, (server.url("x.zip"),), None, 0.1),))
    assert files.read(files.fetch(tmp_path), "wanted") == CONTENT
    assert {path.name for path in (tmp_path / "set").iterdir()} - {".lock"} == {"wanted"}


def test_a_zip_cannot_write_outside_its_folder(server: Server, tmp_path: Path) -> None:
    server.pages["x.zip"] = zipped(**{"../../evil": b"!", "wanted": CONTENT})
    files = FileSet("set", (DataFile("wanted", None, (server.url("x.zip"),), None, 0.1),))
    files.fetch(tmp_path / "deep")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("page", [b"<html>", zipped(other=b"")], ids=["page", "another member"])
def test_a_zip_that_is_none_leaves_nothing(server: Server, tmp_path: Path, page: bytes) -> None:
    server.pages["x.zip"] = page
    files = FileSet("set", (DataFile("wanted", None, (server.url("x.zip"),), None, 0.1),))
    with pytest.raises(DataError, match="could not be downloaded"):
        files.fetch(tmp_path)
    assert files.find(tmp_path) is None


FETCH = """
import sys
from capsbench.data.files import DataFile, FileSet
url, content_md5, packed_md5, folder = sys.argv[1:]
from pathlib import Path
FileSet("set", (DataFile("x.bin", content_md5, (url,), packed_md5, 0.1),)).fetch(Path(folder))
"""


def start_fetch(server: Server, folder: Path) -> subprocess.Popen[bytes]:
    arguments = [server.url("x.bin.gz"), md5(CONTENT), md5(PACKED), str(folder)]
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], stderr=subprocess.DEVNULL)


def wait_for_request(server: Server) -> None:
    deadline = time.monotonic() + 60
    while not server.requests:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_in_the_middle_of_a_download(files: FileSet, server: Server, tmp_path: Path) -> None:
    server.slow.add("x.bin.gz")
    process = start_fetch(server, tmp_path)
    wait_for_request(server)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert files.find(tmp_path) is None
    server.slow.clear()
    assert files.read(files.fetch(tmp_path), "x.bin") == CONTENT


def test_two_processes_at_once_download_once(files: FileSet, server: Server, tmp_path: Path) -> None:
    server.slow.add("x.bin.gz")
    processes = [start_fetch(server, tmp_path) for _ in range(2)]
    assert [process.wait(timeout=90) for process in processes] == [0, 0]
    assert server.requests == ["/x.bin.gz"]
    assert files.read(tmp_path / "set", "x.bin") == CONTENT
