"""A weight file arrives whole and is the one that was meant, or there is a sentence and no file."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from utils.errors import Code, TaskError
from ymir import weight_download
from ymir.weight_download import download_weights

CONTENT = b"weights" * 10_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("gone.pt"):
            self.send_error(404)
            return
        if self.path.endswith("silent.pt"):
            self.server.finished.wait(20)  # type: ignore[attr-defined]
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 100 if self.path.endswith("short.pt") else None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A release on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        running.finished = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setattr(weight_download, "RELEASE", address)
        yield
        running.finished.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


def test_a_file_arrives(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    path = download_weights("yolov5n.pt", DIGEST, [folder])
    assert path == folder / "yolov5n.pt"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["yolov5n.pt"]


def test_another_sum_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "yolov5n.pt").write_bytes(b"old")
    with pytest.raises(TaskError, match="another SHA-256") as caught:
        download_weights("yolov5n.pt", "0" * 64, [tmp_path])
    assert caught.value.code is Code.MODEL
    assert [p.name for p in tmp_path.iterdir()] == ["yolov5n.pt"]
    assert (tmp_path / "yolov5n.pt").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gone.pt", Code.NETWORK, "Not Found"),
        ("silent.pt", Code.NETWORK, "timed out"),
        ("short.pt", Code.MODEL, "another SHA-256"),
    ],
)
def test_servers_that_do_not_deliver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: Code, words: str
) -> None:
    monkeypatch.setattr(weight_download, "TIMEOUT", 0.5)
    with pytest.raises(TaskError, match=words) as caught:
        download_weights(name, DIGEST, [tmp_path])
    assert caught.value.code is code
    assert not list(tmp_path.iterdir())
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (urllib.error.URLError("no route"), TaskError, "put the file into weights_dir yourself"),
        (ConnectionResetError("reset"), TaskError, "put the file into weights_dir yourself"),
        (TimeoutError("slow"), TaskError, "put the file into weights_dir yourself"),
        (OSError(28, "No space left on device"), OSError, "No space"),
    ],
)
def test_a_full_disk_is_not_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(raised, match=words) as caught:
        download_weights("yolov5s.pt", DIGEST, [tmp_path])
    assert getattr(caught.value, "code", Code.NETWORK) is Code.NETWORK


def test_the_first_folder_that_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = tmp_path / "file" / "weights"
    path = download_weights("yolov5n.pt", DIGEST, [blocked, tmp_path / "out"])
    assert path.parent == tmp_path / "out"
    with pytest.raises(TaskError, match=r"none of .* can be written to") as caught:
        download_weights("yolov5n.pt", DIGEST, [blocked])
    assert caught.value.code is Code.CONFIG
