"""`twoview infer` of many videos as typed: files, folders and patterns; what fails keeps nothing else back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scenes import small_scene

from twoview.lifting import model as models

GIVEN = ("--model", "start.pt", "--detector", "markers:Markers", "--no-picture")


@pytest.fixture
def day(twoview, tmp_path, start) -> Path:
    """Two folders with clips of the same names, and a file that is no video."""
    small_scene(tmp_path / "morning", seconds=0.4)
    (tmp_path / "evening").mkdir()
    shutil.copyfile(tmp_path / "morning" / "b.mp4", tmp_path / "evening" / "a.mp4")
    (tmp_path / "morning" / "broken.mp4").write_text("no video")
    return tmp_path


def test_many_videos_by_one_model_and_a_bad_one_blocks_nothing(twoview, day, monkeypatch):
    loaded = []
    load = models.load_model
    monkeypatch.setattr(models, "load_model", lambda path, **more: loaded.append(path) or load(path, **more))
    answer = twoview("infer", "morning", "evening/*.mp4", "gone.mp4", *GIVEN)
    assert answer.code == 1
    assert loaded == ["start.pt"]
    assert "3 of 5 videos" in answer.out
    assert "morning/broken.mp4" in answer.err
    assert "gone.mp4" in answer.err
    kept = {path.name for path in (day / "session" / "results").glob("*.npz")}
    assert kept == {f"{name}{end}.npz" for name in ("a", "b", "evening_a") for end in ("", ".2d", ".2d.people")}
    again = twoview("infer", "morning", "evening", *GIVEN, "--json")
    assert again.code == 1
    rows = {row["video"]: row for row in again.json["results"]}
    assert list(rows) == ["morning/a.mp4", "morning/b.mp4", "evening/a.mp4"]
    assert not any(row["fresh"] for row in rows.values())
    assert rows["evening/a.mp4"]["files"]["poses"].endswith("results/evening_a.npz")
    assert [row["of"] for row in again.json["failed"]] == ["morning/broken.mp4"]
    assert again.json["next"].startswith("twoview angles ")
    assert loaded == ["start.pt"] * 2  # for the broken one, which may have been repaired


def test_results_of_many_go_to_a_folder_and_what_is_drawn_there_is_no_video_of_it(twoview, day):
    (day / "morning" / "broken.mp4").unlink()
    (day / "morning" / "b.mp4").rename(day / "morning" / "serve.mp4")
    answer = twoview("infer", "morning", *GIVEN[:-1], "--out", "done")
    assert answer.code == 0, answer.err
    assert (day / "done" / "serve.png").exists()
    assert twoview("infer", "evening/a.mp4", *GIVEN[:-1], "--out", "done").code == 0
    assert (day / "done" / "evening_a.mp4").exists()
    assert not list((day / "done").glob(".*"))
    shutil.copyfile(day / "morning" / "serve.mp4", day / "done" / "more.mp4")
    rows = twoview("infer", "done", *GIVEN, "--json").json["results"]
    assert [row["video"] for row in rows] == ["done/more.mp4"]


def test_what_is_wrong_with_all_stops_at_once(twoview, day):
    (day / "bad.pt").write_text("no model")
    for words, reason in (
        ((*GIVEN, "--person", "1"), "--person auto"),
        ((*GIVEN, "--format", "fbx"), "unknown format"),
        (("--model", "bad.pt", *GIVEN[2:]), "bad.pt"),
        (("--model", "bad.pt", "--json", *GIVEN[2:]), "bad.pt"),
    ):
        answer = twoview("infer", "morning", *words)
        assert answer.code == 1
        assert reason in answer.err
        assert answer.err.count("Error: ") == 1, answer.err
    assert answer.json["failed"][0]["error"] == "LifterError"
    assert not (day / "session" / "results").exists()
    assert twoview("infer", *GIVEN).code == 2
