"""What a session remembers: the detector that was named or chosen, and the athlete's height."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from scenes import small_scene
from terminal import type_command

from twoview import detectors
from twoview.config import DetectConfig, InferConfig
from twoview.errors import FormatError, SessionError
from twoview.poses import Poses3D
from twoview.storage import records, weights
from twoview.workflow import remembered
from twoview.workflow.remembered import Remembered, keep, recall


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, nothing in the cache."""
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    tried = []

    def refuse(self, request, *_, **__):
        import urllib.error

        tried.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    return tried


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder in which two videos lie, with the small marker detector in place of the one that ships."""
    small_scene(tmp_path, seconds=1.5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(detectors.DETECTORS, "movenet", "markers:Markers")
    return tmp_path


def typed(*words: str, code: int = 0):
    answer = type_command(*words)
    assert answer.code == code, answer.out + answer.err
    return answer


def detector_in(path: str) -> str:
    return records.read_header(path)["settings"]["detector"]


DETECTIONS = "session/takes/take1/detections/{}.npz"


def test_on_a_fresh_machine_without_network_the_commands_work_word_for_word(folder, offline):
    typed("sync", "a.mp4", "b.mp4", "--set", "min_overlap_s=0.5")
    answer = typed("detect")
    said = " ".join((answer.out + answer.err).split())
    assert "detecting with movenet, which is included" in said
    assert "no network" in said
    assert "more accurate" in said
    assert "twoview weights get rtmpose-m" in said
    assert len(offline) == 1
    assert detector_in(DETECTIONS.format("a")) == detector_in(DETECTIONS.format("b")) == "movenet"
    assert recall("session") == Remembered("movenet")
    again = typed("detect")
    assert "up to date" in again.out
    assert "included" not in again.err + again.out
    shutil.copyfile("a.mp4", "clip.mp4")
    typed("infer", "clip.mp4", "--model", "twoview-small", "--no-picture")
    assert detector_in("session/results/clip.2d.npz") == "movenet"
    assert len(offline) == 1


def test_the_best_detector_is_taken_where_it_is_on_this_machine(tmp_path, monkeypatch, caplog, offline):
    monkeypatch.setattr(weights, "locate", lambda *_, **__: tmp_path)
    assert detectors.choose("cpu") == "rtmpose-m"
    monkeypatch.undo()
    monkeypatch.setenv("TWOVIEW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir(exist_ok=True)
    weights.cached_path("rtmpose-m").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert detectors.choose("cpu") == "movenet"
    assert "is not rtmpose-m" in caplog.text


def test_a_detector_that_is_named_is_honored_or_refused_and_then_remembered(folder, offline):
    typed("sync", "a.mp4", "b.mp4", "--set", "min_overlap_s=0.5")
    answer = typed("detect", "--detector", "rtmpose-m", code=1)
    assert "cannot be reached" in answer.err
    assert recall("session") == Remembered()
    typed("detect", "--detector", "movenet")
    assert len(offline) == 1
    before = detector_in(DETECTIONS.format("a"))
    typed("detect", "--take", "take1", "--views", "a", "--person", "0")
    assert detector_in(DETECTIONS.format("a")) == before == "movenet"
    keep("session", detector="rtmpose-s")
    answer = typed("infer", "a.mp4", "--model", "twoview-small", "--no-picture", code=1)
    assert "rtmpose-s" in answer.err
    typed("infer", "a.mp4", "--model", "twoview-small", "--no-picture", "--detector", "movenet")
    assert recall("session").detector == "rtmpose-s"


def test_a_session_of_an_older_version_goes_on_with_the_detector_of_its_detections(folder, offline):
    typed("sync", "a.mp4", "b.mp4", "--set", "min_overlap_s=0.5")
    typed("detect", "--detector", "movenet")
    Path("session/settings.json").unlink()
    assert "up to date" in typed("detect").out
    assert remembered.with_detector("session", DetectConfig()).detector == "movenet"
    assert not offline


@pytest.mark.parametrize("name", ["os:system", "mmpose:config.py,weights.pth", 5, "nobody"])
def test_a_detector_in_a_strangers_session_is_not_run(name, tmp_path):
    (tmp_path / "settings.json").write_text(
        json.dumps({"format": "session settings", "version": 1, "detector": name, "height_m": 0})
    )
    auto, mine = DetectConfig(), DetectConfig(detector="movenet")

    def used(given, **more):
        return remembered.decided(remembered.with_detector(tmp_path, given), given, tmp_path, **more).detector

    with pytest.raises((SessionError, FormatError)) as caught:
        used(auto)
    if isinstance(name, str) and ":" in name:
        assert f"--trust {name}" in caught.value.hint
        assert used(auto, trust=[name]) == name
    assert used(mine) == "movenet"


def test_detections_that_are_up_to_date_need_no_trust(folder):
    typed("sync", "a.mp4", "b.mp4", "--set", "min_overlap_s=0.5")
    typed("detect", "--detector", "markers:Markers")
    assert "up to date" in typed("detect").out
    answer = typed("detect", "--set", "people_every=3", code=1)
    assert "markers:Markers" in answer.err
    assert "refused" in answer.err
    typed("detect", "--set", "people_every=3", "--trust", "markers:Markers")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"format": "session settings", "version": 1, "height_m": NaN}',
     '{"format": "session settings", "version": 1, "height_m": 1e9}',
     '{"format": "session settings", "version": 1, "height_m": "tall"}', '{"format": "sync", "version": 1}'],
)  # fmt: skip
def test_a_damaged_memory_is_named(text, tmp_path):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(FormatError, match="what the session remembers, is damaged"):
        recall(tmp_path)


def test_a_height_given_once_is_kept(tmp_path, monkeypatch):
    assert remembered.with_height(tmp_path, InferConfig()).height_m == 0
    keep(tmp_path, height_m=1.81)
    keep(tmp_path, detector="movenet")
    assert recall(tmp_path) == Remembered("movenet", 1.81)
    assert remembered.with_height(tmp_path, InferConfig()).height_m == 1.81
    assert remembered.with_height(tmp_path, InferConfig(height_m=1.7)).height_m == 1.7


def test_infer_keeps_meters_and_a_height_of_0_forgets_it(folder):
    small = small_scene(folder / "short", seconds=0.5).views["a"]
    records.save("flat.npz", small.poses2d)
    words = ("infer", "flat.npz", "--model", "twoview-small", "--no-picture")
    Path("session").mkdir()
    typed(*words, "--height", "1.7")
    first = records.load_as("session/results/flat.npz", Poses3D)
    assert "meters" in typed(*words).out
    again = records.load_as("session/results/flat.npz", Poses3D)
    assert again.unit == "m"
    assert np.array_equal(first.xyz, again.xyz)
    typed(*words, "--height", "0")
    assert recall("session").height_m == 0
    assert records.load_as("session/results/flat.npz", Poses3D).unit != "m"


def test_nothing_is_written_where_there_is_no_session(tmp_path):
    keep(tmp_path / "none", detector="movenet")
    assert not (tmp_path / "none").exists()
