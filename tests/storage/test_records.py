from __future__ import annotations

import errno
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from twoview.cli import console
from twoview.config import FinetuneConfig, SyncConfig, TriangulateConfig
from twoview.errors import FormatError, StorageError
from twoview.poses import Poses2D, Poses3D, Source
from twoview.skeleton import COCO17
from twoview.storage import records
from twoview.timeline import ClockMap, ClockQuality, Sync
from twoview.training.runs import RunFolder, rows

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
    folder.start(new=True)
    folder.log({"epoch": 1, "loss": 0.5, "angle_deg": NAN})
    folder.log({"epoch": 2, "loss": float("inf"), "angle_deg": 90.0})
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
    with pytest.raises(StorageError, match="cannot read"):
        records.fingerprint(tmp_path / "absent")


def test_the_wrong_kind_is_named(tmp_path, poses):
    records.save(tmp_path / "p.npz", poses)
    with pytest.raises(FormatError, match="holds Poses2D, and Sync was expected"):
        records.load_as(tmp_path / "p.npz", Sync)
