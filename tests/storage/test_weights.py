"""Named weights: shipped, cached, downloaded from a server of our own, cut off, changed, missing."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import zipfile
from dataclasses import replace
from typing import ClassVar

import pytest

from twoview.storage import weights
from twoview.storage.weights import WEIGHTS, Weights, WeightsError, add, download, listing, locate, sha256

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """Serves BODY at any path; honors ranges; the test may make it stop after some bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        stop_after = None
        ranges: ClassVar[list[str | None]] = []

        def do_GET(self):
            asked = self.headers.get("Range")
            Handler.ranges.append(asked)
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            body = BODY[first:]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if Handler.stop_after is None else body[: Handler.stop_after])

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running.server_address[1], Handler
    running.shutdown()
    running.server_close()


@pytest.fixture
def row(server, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "test", Weights("for tests", "none", 1, url=f"http://127.0.0.1:{server[0]}/test.onnx"))
    return WEIGHTS["test"]


def test_shipped_weights_are_the_ones_in_the_table():
    for row in WEIGHTS.values():
        if row.shipped:
            assert sha256(weights.ASSETS / row.shipped) == row.sha256


def test_every_row_says_what_it_is_where_it_is_and_under_which_licence():
    for name, row in WEIGHTS.items():
        assert row.what, name
        assert row.licence, name
        assert row.mb > 0, name
        assert row.shipped or row.url or row.page, name
    assert {r["name"] for r in listing()} == set(WEIGHTS)


def test_downloaded_once_with_progress_then_from_the_cache(row, server):
    events = []
    path = locate("test", on_progress=events.append)
    assert path.read_bytes() == BODY
    assert events[-1].done == events[-1].total == len(BODY)
    assert events[-1].unit == "bytes"
    assert locate("test") == path
    assert len(server[1].ranges) == 1
    assert next(r for r in listing() if r["name"] == "test")["where"] == "cached"


def test_a_download_that_was_cut_off_continues(row, server):
    server[1].stop_after, server[1].ranges = 300_000, []
    with pytest.raises(WeightsError, match="cannot be reached"):
        download("test")
    server[1].stop_after = None
    assert locate("test").read_bytes() == BODY
    assert server[1].ranges[-1] == "bytes=300000-"


def test_a_wrong_hash_is_refused_and_nothing_is_kept(row, monkeypatch, cache):
    monkeypatch.setitem(WEIGHTS, "test", replace(row, sha256="0" * 64))
    with pytest.raises(WeightsError, match="expected 000000"):
        locate("test")
    assert not list(cache.glob("test.onnx"))


def test_a_file_that_changed_after_its_first_use(row):
    path = locate("test")
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="has changed"):
        locate("test")


def test_offline_the_file_to_fetch_and_the_detector_that_ships(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(WeightsError, match=r"rtmpose-m \(50 MB\) is not on this machine") as caught:
        locate("rtmpose-m")
    assert WEIGHTS["rtmpose-m"].url in caught.value.hint
    assert "twoview weights add rtmpose-m" in caught.value.hint
    assert "--detector movenet" in caught.value.hint


def test_a_zip_fetched_by_hand_is_unpacked(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "zipped", Weights("z", "none", 1, url="http://x/y.zip", member="end2end.onnx"))
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("20230504/end2end.onnx", b"model")
        archive.writestr("20230504/detail.json", b"{}")
    assert add("zipped", tmp_path / "y.zip").read_bytes() == b"model"
    assert locate("zipped").name == "zipped.onnx"
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", b"")
    with pytest.raises(WeightsError, match=r"holds no end2end.onnx; it has readme.txt"):
        add("zipped", tmp_path / "other.zip")


def test_names_and_files_that_there_are_not(tmp_path):
    with pytest.raises(WeightsError, match="unknown weights 'rtmpose-z'"):
        locate("rtmpose-z")
    with pytest.raises(WeightsError, match="no such file"):
        add("rtmpose-m", tmp_path / "none.zip")
    with pytest.raises(WeightsError, match="ships with twoview"):
        add("movenet-thunder", tmp_path / "none.onnx")
