from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from terminal import type_command

from twoview.cli import console
from twoview.config import FinetuneConfig, SyncConfig, TriangulateConfig
from twoview.errors import FormatError, StorageError, VideoError
from twoview.media.video import probe
from twoview.poses import Poses2D, Poses3D, Source
from twoview.skeleton import COCO17
from twoview.storage import records
from twoview.timeline import ClockMap, ClockQuality, Sync
from twoview.training.runs import RunFolder, RunState, Snapshot, rows

NAN = float("nan")


@pytest.fixture
def poses() -> Poses2D:
    random = np.random.default_rng(0)
    xy, score = random.random((4, 17, 2)) * 100, random.random((4, 17)) * 0.9 + 0.1
    xy[1, 2], score[1, 2] = np.nan, 0
    return Poses2D(xy, score, np.arange(4) / 30, COCO17, (640, 480), "a", Source("12-ab", "movenet 1"))


def test_saved_values_come_back(tmp_path, poses):
    solid = Poses3D(np.random.default_rng(1).random((4, 17, 3)), poses.time, unit="m", view="b")
    quality = {"b": ClockQuality(0.99, 1e-4, NAN, 12.0, (5, 6), 2e-4)}
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(-0.25, 1.00001)}, "sound", quality, ("a warning",))
    for name, value in {"p.npz": poses, "q.npz": solid}.items():
        records.save(tmp_path / name, value)
        loaded = records.load(tmp_path / name)
        for field in fields(value):
            np.testing.assert_equal(getattr(loaded, field.name), getattr(value, field.name))
    records.save(tmp_path / "s.json", sync)
    loaded = records.load_as(tmp_path / "s.json", Sync)
    assert loaded.clocks == sync.clocks
    assert loaded.warnings == sync.warnings
    assert loaded.quality["b"].windows == (5, 6)
    assert np.isnan(loaded.quality["b"].drift_se_ppm)


def strict(text: str) -> dict:
    """Parsed JSON; fails on NaN and Infinity, which Python alone takes for JSON."""
    return json.loads(text, parse_constant=pytest.fail)


def test_json_is_strict(tmp_path, capsys):
    values = {"a": NAN, "b": [1.5, (np.float64("inf"), {"c": -np.inf})], "d": "NaN", "e": True}
    plain = {"a": None, "b": [1.5, [None, {"c": None}]], "d": "NaN", "e": True}
    head = records.header("thing", settings=values)
    assert head["settings"] == plain
    records.write_json(tmp_path / "a.json", {**head, **values})
    assert strict((tmp_path / "a.json").read_text())["b"] == plain["b"]
    assert records.is_current(tmp_path / "a.json", head)
    records.write_npz(tmp_path / "a.npz", {**head, **values}, {})
    with np.load(tmp_path / "a.npz") as file:
        assert strict(str(file["header"]))["a"] is None
    console.as_json(values)
    assert strict(capsys.readouterr().out) == plain


def test_a_log_is_strict_and_its_numbers_come_back(tmp_path):
    folder = RunFolder(tmp_path, FinetuneConfig(), TriangulateConfig(), [], writes=True)
    log = ({"epoch": 1, "loss": 0.5, "angle_deg": NAN}, {"epoch": 2, "loss": float("inf"), "angle_deg": 90.0})
    folder.write_log(RunState(2, {}, Snapshot(0, {}, {}), {}, {}, log=log))
    lines = [strict(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["angle_deg"] for line in lines] == [None, 90.0]
    first, second = rows(tmp_path)
    assert (first["loss"], second["angle_deg"]) == (0.5, 90.0)
    assert np.isnan([first["angle_deg"], second["loss"]]).all()


def test_files_name_their_format_inputs_and_settings(tmp_path, poses):
    records.save(tmp_path / "p.npz", poses, inputs={"video": "12-ab"}, settings=SyncConfig())
    head = records.read_header(tmp_path / "p.npz")
    assert (head["format"], head["version"]) == ("poses2d", 1)
    assert head["made_by"].startswith("twoview ")
    assert head["settings"]["min_overlap_s"] == SyncConfig().min_overlap_s
    wanted = records.header("poses2d", inputs={"video": "12-ab"}, settings=SyncConfig())
    assert records.is_current(tmp_path / "p.npz", wanted)
    assert not records.is_current(tmp_path / "p.npz", {**wanted, "inputs": {"video": "other"}})
    assert not records.is_current(tmp_path / "absent.npz", wanted)


def test_a_truncated_file_is_named(tmp_path, poses):
    path = tmp_path / "p.npz"
    records.save(path, poses)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FormatError, match="truncated"):
        records.load(path)
    assert not records.is_current(path, records.header("poses2d"))


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}", '{"format": "sync"}', "\x00\x01"])
def test_foreign_json_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(FormatError):
        records.load(tmp_path / "x.json")


def test_a_foreign_npz_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match="not a twoview file"):
        records.load(tmp_path / "x.npz")


def test_a_newer_version_asks_for_an_upgrade(tmp_path):
    content = {"format": "sync", "version": 99, "made_by": "twoview 9.9"}
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"twoview 9\.9") as error:
        records.load(tmp_path / "x.json")
    assert "upgrade" in error.value.hint


def test_a_full_disk_leaves_the_old_file_and_no_half(tmp_path, poses, monkeypatch):
    path = tmp_path / "p.npz"
    records.save(path, poses)
    before = path.read_bytes()

    def full(file, *_, **__):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(StorageError, match="No space left"):
        records.save(path, poses)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted(path: Path) -> None:
        with records.atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_follow_content_not_names(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    (tmp_path / "c").write_bytes(b"x" * 2_999_999 + b"y")
    assert records.fingerprint(tmp_path / "a") == records.fingerprint(tmp_path / "b")
    assert records.fingerprint(tmp_path / "a") != records.fingerprint(tmp_path / "c")
    with pytest.raises(StorageError, match="no such file"):
        records.fingerprint(tmp_path / "absent")


def test_the_wrong_kind_is_named(tmp_path, poses):
    records.save(tmp_path / "p.npz", poses)
    with pytest.raises(FormatError, match="holds Poses2D, and Sync was expected"):
        records.load_as(tmp_path / "p.npz", Sync)


# --- damaged and hostile files: one line, whatever they hold ---------------------------------------------------------


def archive(path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(f"{name}.npy", data)


def npy(value) -> bytes:
    data = io.BytesIO()
    np.save(data, value, allow_pickle=True)
    return data.getvalue()


def claim(*shape: int) -> bytes:
    """The first bytes of an array of that shape."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


HEAD = json.dumps({"format": "poses3d", "version": 1, "inputs": {}, "settings": {}})
TEXTS = ["", "[]", "null", "7", "{}", "[" * 100_000, '{"a":' * 50_000, '{"format": [], "version": 1}',
         '{"format": "sync", "version": "1"}', '{"format": "sync", "version": true}',
         '{"format": "sync", "version": 0}', '{"format": "sync", "version": 1, "inputs": 3}',
         '{"format": "sync", "version": 1}', "\ud800", "<!doctype html>"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_damaged_text_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(FormatError) as refusal:
        records.load(path)
    assert "delete" not in str(refusal.value)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"header": npy(np.array(HEAD)), "xyz": claim(25_000_000_000) + b"1234"}, "should have 100000000000 bytes"),
        ({"header": npy(np.array(HEAD)), "xyz": npy(np.array([{}], dtype=object))}, "could run code"),
        ({"header": npy(np.array(HEAD)), "xyz": b"no array"}, "damaged"),
        ({"header": npy(np.array(HEAD))}, "is missing"),
        ({"header": npy(np.array("[" * 100_000))}, "nested too deeply"),
        ({"header": npy(np.zeros(3))}, "damaged"),
        ({"xyz": npy(np.zeros(3))}, "header"),
        ({"header": npy(np.array(HEAD)), "xyz": npy(np.full((2, 17, 3), "1")), "time": npy(np.arange(2.0))}, "damaged"),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(tmp_path, entries, says):
    archive(tmp_path / "a.npz", **entries)
    with pytest.raises(FormatError, match=says):
        records.load(tmp_path / "a.npz")


def test_arrays_that_unpack_to_more_than_is_read_are_refused_by_their_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 1000)
    archive(tmp_path / "a.npz", header=npy(np.array(HEAD)), xyz=claim(100, 17, 3) + bytes(4 * 100 * 17 * 3))
    with pytest.raises(FormatError, match="the most read is"):
        records.read_npz(tmp_path / "a.npz")
    records.read_header(tmp_path / "a.npz")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["a.npz", "a.json", "a.mp4"])
@pytest.mark.parametrize("kind", ["folder", "loop", "pipe", "device"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, name, kind):
    path = tmp_path / name
    {"folder": path.mkdir, "loop": lambda: path.symlink_to(name), "pipe": lambda: os.mkfifo(path),
     "device": lambda: path.symlink_to("/dev/zero")}[kind]()  # fmt: skip
    with pytest.raises((FormatError, VideoError, StorageError)):
        probe(path) if name == "a.mp4" else records.load(path)
    with pytest.raises(StorageError):
        records.fingerprint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"offset_s": float("nan")}, {"rate": 0.0}, {"rate": -1.0}, {"rate": float("inf")}, {"offset_s": None},
        {"rate": "fast"}, {"confidence": "sure"}, {"confidence": 1.0, "windows": 3},
    ],
)  # fmt: skip
def test_a_clock_that_is_none_is_refused(change):
    content = records.sync_to_json(Sync("a", {"a": ClockMap(), "b": ClockMap(0.4)}))
    content["views"]["b"] |= change
    with pytest.raises((ValueError, TypeError)):
        records.sync_from_json(content)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not asked there")
def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    killed = (
        "import os, sys; from twoview.storage import records\n"
        "with records.atomic(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "a [1].json")], check=False)
    (left,) = tmp_path.iterdir()
    ours = tmp_path / left.name.replace(re.search(r"-(\d+)-", left.name)[0], f"-{os.getpid()}-")  # its writer lives
    elsewhere, ages = tmp_path / ".b.other_host-1-abcdefgh.json", tmp_path / ".c.other_host-1-abcdefgh.npz"
    own = tmp_path / ".profile.json"
    for path in (ours, elsewhere, ages, own):
        path.write_text("half")
    os.utime(ages, (0, 0))
    os.utime(own, (0, 0))
    records.write_json(tmp_path / "d.json", records.header("sync"))
    assert set(tmp_path.iterdir()) == {ours, elsewhere, own, tmp_path / "d.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_circle_of_links_is_refused_by_every_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").symlink_to("a.mp4")
    Path("round").symlink_to("round")
    for words in (["sync", "a.mp4", "a.mp4"], ["infer", "a.mp4", "--model", "twoview-small"], ["show", "a.mp4"],
                  ["show", "--session", "round"], ["detect", "--session", "round"]):  # fmt: skip
        answer = type_command(*words)
        assert (answer.code, answer.err.count("\n") <= 2) == (1, True), answer


def test_a_kill_between_the_two_logs_is_mended(tmp_path):
    folder = RunFolder(tmp_path, FinetuneConfig(), TriangulateConfig(), [], writes=True)
    state = RunState(1, {}, Snapshot(0, {}, {}), {}, {}, log=({"epoch": 1, "loss": 0.5},))
    with pytest.raises(KeyboardInterrupt), stopped_at_the_second_file():
        folder.write_log(state)
    folder.write_log(state)
    assert (tmp_path / "log.csv").read_text().splitlines() == ["epoch,loss", "1,0.5"]
    assert len(rows(tmp_path)) == 1


def test_a_file_that_cannot_be_removed_is_an_error_of_ours(tmp_path):
    records.remove(tmp_path / "gone.csv")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(StorageError, match=r"cannot remove .*a\.csv"):
        records.remove(tmp_path / "a.csv")


@contextmanager
def stopped_at_the_second_file():
    """The process is stopped as it begins its second file."""
    real, count = records.atomic, 0

    @contextmanager
    def stopped(path):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        with real(path) as temporary:
            yield temporary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "atomic", stopped)
        yield


@pytest.mark.parametrize("frames", [4, 4000])  # a file that is read at once, and one that is not
def test_a_header_is_read_by_itself_and_never_of_a_file_that_is_cut_off_or_changed(tmp_path, frames, monkeypatch):
    path = tmp_path / "a.npz"
    random = np.random.default_rng(0)
    xy = random.random((frames, 17, 2)).astype(np.float32)
    records.save(path, Poses2D(xy, np.ones((frames, 17)), np.arange(frames) / 30, COCO17, (640, 480)), inputs={"é": 1})
    whole = path.read_bytes()
    with monkeypatch.context() as planted:
        planted.setattr(zipfile, "ZipFile", None)  # the archive is not opened
        assert records.read_header(path) == records.header("poses2d", inputs={"é": 1}) | records.read_header(path)
    assert records.read_header(path) == records.read_npz(path)[0]
    at = whole.index("poses2d".encode("utf-32-le"))
    for damaged in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:at] + b"q" + whole[at + 1 :],
        b"",
        whole + b"x" * 70000,
    ):
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            records.read_header(path)
