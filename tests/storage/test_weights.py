"""Named weights: shipped, cached, downloaded from a server of our own, cut off, changed, missing."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import zipfile
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from no_files import put_no_file
from places import ROOT

from twoview.detectors.rtmpose_network import RTMPoseNet
from twoview.errors import TwoViewError
from twoview.lifters import build
from twoview.storage import weights
from twoview.storage.weights import WEIGHTS, Weights, WeightsError, add, download, listing, locate, sha256

BODY = bytes(range(256)) * 4096  # 1 MiB
CERTIFICATE = ROOT / "tests" / "data" / "localhost.pem"
SHIPPED = weights.ASSETS / "movenet" / "movenet-thunder.w16.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    """Serves BODY by https at any path, honors ranges and If-Range; the test may change what it does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("NO_PROXY", "*")

    class Handler(http.server.BaseHTTPRequestHandler):
        body, tag, kind, stop_after, location = BODY, '"one"', "application/octet-stream", None, ""
        endless = False
        ranges: ClassVar[list[str | None]] = []

        def do_GET(self):
            mine = type(self)
            asked = self.headers.get("Range")
            mine.ranges.append(asked)
            if mine.location:
                self.send_response(302)
                self.send_header("Location", mine.location)
                self.end_headers()
                return
            same = self.headers.get("If-Range", mine.tag) == mine.tag
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same else 0
            if first >= len(mine.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(mine.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            rest = mine.body[first:]
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(mine.body) - 1}/{len(mine.body)}")
            if not mine.endless:
                self.send_header("Content-Length", str(len(rest)))
            if mine.tag:
                self.send_header("ETag", mine.tag)
            self.send_header("Content-Type", mine.kind)
            self.end_headers()
            self.wfile.write(rest if mine.stop_after is None else rest[: mine.stop_after])
            while mine.endless:
                self.wfile.write(BODY)

        def log_message(self, *_):
            pass

    Handler.ranges = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running.server_address[1], Handler
    running.shutdown()
    running.server_close()


@pytest.fixture
def row(server, monkeypatch):
    url = f"https://localhost:{server[0]}/test.onnx"
    monkeypatch.setitem(WEIGHTS, "test", Weights("for tests", "none", 1, url=url))
    return WEIGHTS["test"]


@pytest.fixture
def part(cache):
    """What an earlier try left: the file and the server's name for its version."""
    cache.mkdir()
    (cache / "test.onnx.part").write_bytes(BODY[:1000])
    (cache / "test.onnx.part.tag").write_text('"one"')
    return cache / "test.onnx.part"


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
    with pytest.raises(WeightsError, match="is not test: its SHA-256 starts"):
        locate("test")


def test_offline_the_file_to_fetch_and_the_detector_that_ships(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
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


def test_a_downloaded_file_is_recognized_by_its_name_on_the_server():
    for name in ("rtmpose-m", "rtmpose-m-26"):
        file = weights.WEIGHTS[name].file_name
        assert weights.recognized(f"down/{file}") == weights.recognized(file.replace(".zip", " (1).zip")) == name
    assert weights.recognized("golf.zip") == ""


def test_names_and_files_that_there_are_not(tmp_path):
    with pytest.raises(WeightsError, match="unknown weights 'rtmpose-z'"):
        locate("rtmpose-z")
    with pytest.raises(WeightsError, match="no such file"):
        add("rtmpose-m", tmp_path / "none.zip")
    with pytest.raises(WeightsError, match="ships with twoview"):
        add("movenet-thunder", tmp_path / "none.onnx")


def test_https_alone_is_spoken(row, server, monkeypatch, tmp_path):
    for url in ("http://localhost/x.onnx", "ftp://localhost/x.onnx", SHIPPED.as_uri(), "data:,x"):
        monkeypatch.setitem(WEIGHTS, "test", replace(row, url=url))
        with pytest.raises(WeightsError, match="is not https"):
            download("test")
    monkeypatch.setitem(WEIGHTS, "test", row)
    for url in ("http://localhost:1/x.onnx", SHIPPED.as_uri()):
        server[1].location = url
        with pytest.raises(WeightsError, match=r"is not https|is not allowed"):
            download("test")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(WeightsError, match=r"cannot be reached: .*certificate"):
        download("test")
    assert all(row.url.startswith("https://") for row in WEIGHTS.values() if row.url)


def test_a_redirect_by_https_is_followed(row, server):
    first = server[1]

    first.location = f"https://localhost:{server[0]}/real"
    original = first.do_GET

    def do_get(self):
        if self.path == "/real":
            first.location = ""
        original(self)

    first.do_GET = do_get
    assert locate("test").read_bytes() == BODY


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_login_page_is_refused(kind, row, server, cache):
    server[1].kind, server[1].body = kind, b"\n <!DOCTYPE html><html>Please log in</html>"
    with pytest.raises(WeightsError, match="web page"):
        locate("test")
    assert not list(cache.glob("*"))


def test_a_part_of_an_older_file_is_not_continued(row, server, part):
    server[1].tag, server[1].body = '"two"', BODY[::-1]
    assert locate("test").read_bytes() == BODY[::-1]
    assert server[1].ranges == ["bytes=1000-"]


def test_a_part_that_nobody_knows_the_version_of_is_not_continued(row, server, part):
    part.with_name("test.onnx.part.tag").unlink()
    part.write_bytes(b"of another file")
    assert locate("test").read_bytes() == BODY
    assert server[1].ranges == [None]


def test_a_part_that_is_complete_or_longer_than_the_file(row, server, part):
    part.write_bytes(BODY)
    assert locate("test").read_bytes() == BODY
    cached = weights.cached_path("test")
    cached.unlink()
    part.write_bytes(BODY + b"more")
    part.with_name("test.onnx.part.tag").write_text('"one"')
    with pytest.raises(WeightsError, match="starts anew"):
        locate("test")
    assert locate("test").read_bytes() == BODY


def test_a_server_that_goes_on_and_on_is_left(row, server, cache):
    server[1].endless = True
    with pytest.raises(WeightsError, match="sends more than"):
        locate("test")
    assert not list(cache.glob("*"))


def test_zips_cut_short_empty_or_huge(monkeypatch, tmp_path, cache):
    monkeypatch.setitem(WEIGHTS, "zipped", Weights("z", "none", 0.1, url="https://x/y.zip", member="end2end.onnx"))
    with zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/end2end.onnx", os.urandom(100_000))
    whole = (tmp_path / "y.zip").read_bytes()
    for content in (whole[:-50], whole[:50_000], whole[:20_000] + b"x" + whole[20_001:], b"PK"):
        (tmp_path / "cut.zip").write_bytes(content)
        with pytest.raises(WeightsError, match="damaged zip"):
            add("zipped", tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/end2end.onnx", bytes(200_000_000))
    with pytest.raises(WeightsError, match="would unpack to 200 MB"):
        add("zipped", tmp_path / "bomb.zip")
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 100_000, '{"format": "pins", "version": 1}', '{"format": "pins", "version": 1, "sha256": 5}',
     '{"format": "pins", "version": 1, "sha256": {"test": "abc"}}'],
)  # fmt: skip
def test_damaged_hashes_do_not_make_room_for_others(content, row, cache):
    path = locate("test")
    (cache / "pins.json").write_text(content)
    path.write_bytes(b"something else")
    for _ in range(2):
        with pytest.raises(TwoViewError, match=r"pins\.json, the hashes of weights, is damaged"):
            locate("test")


def test_a_hash_that_is_kept_is_logged_once(row, caplog, cache):
    with caplog.at_level(logging.WARNING):
        path = locate("test")
    assert f"test: SHA-256 {sha256(path)}" in caplog.text
    caplog.clear()
    locate("test")
    assert caplog.text == ""
    assert json.loads((cache / "pins.json").read_text())["sha256"]["test"] == sha256(path)


def saved(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["rtmpose-l", "rtmpose-l-torch", "rtmpose-t-26-torch", "yolox-s", "motionbert-lite"])
def test_a_file_of_another_kind_is_tried_before_its_hash_is_kept(name, tmp_path, cache):
    torch.manual_seed(0)
    made = {
        "m.pth": {"state_dict": RTMPoseNet("t", 17).state_dict()},
        "small.bin": {"model_pos": build("dstformer", {"dim_feat": 16, "dim_rep": 16, "depth": 1}).state_dict()},
        "empty.bin": {"model_pos": {}},
    }
    files = [SHIPPED, *(saved(content, tmp_path / file) for file, content in made.items())]
    (tmp_path / "text.onnx").write_text("no model")
    for file in (*files, tmp_path / "text.onnx"):
        with pytest.raises(WeightsError, match=rf"is not {name}: |holds no end2end\.onnx") as caught:
            add(name, file)
        assert "/tmp" not in caught.value.message.partition(": ")[2]
    assert not (cache / "pins.json").exists()
    assert not [path for path in cache.rglob("*") if path.is_file()]
    weights.cached_path(name).parent.mkdir(exist_ok=True)
    weights.cached_path(name).write_bytes(SHIPPED.read_bytes())  # put there by hand
    with pytest.raises(WeightsError, match=rf"is not {name}"):
        locate(name)


def test_the_right_file_passes_its_trial(tmp_path):
    torch.manual_seed(0)
    content = {"state_dict": RTMPoseNet("t", 26).state_dict()}
    assert add("rtmpose-t-26-torch", saved(content, tmp_path / "t.pth")).exists()
    assert locate("rtmpose-t-26-torch").exists()


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices are no files there")
@pytest.mark.parametrize("kind", ["pipe", "circle", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "weights.onnx"
    put_no_file(path, kind)
    with pytest.raises(WeightsError, match=r"expected a file|cannot read"):
        add("rtmpose-l", path)


def test_processes_that_need_the_same_file_at_once_download_it_once(row, server, cache):
    code = (
        "from twoview.storage import weights\n"
        f"weights.WEIGHTS['test'] = weights.Weights('for tests', 'none', 1, url={row.url!r})\n"
        "print(weights.sha256(weights.locate('test')))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    found = {process.communicate(timeout=60)[0].strip() for process in running}
    assert found == {hashlib.sha256(BODY).hexdigest()}
    assert server[1].ranges == [None]
    assert sorted(path.name for path in cache.iterdir()) == ["pins.json", "test.onnx"]
