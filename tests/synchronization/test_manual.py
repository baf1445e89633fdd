"""Clocks by hand are exact, and refuse what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from twoview.errors import SyncError
from twoview.synchronization.capture_times import read_timestamps
from twoview.synchronization.manual import by_event, by_offset, by_timestamps


def test_an_offset_is_taken_as_it_is():
    sync = by_offset({"b": 0.61}, "a")
    assert sync.method == "offset"
    assert float(sync.to_session("b", 2.0)) == 2.61


def test_an_event_is_at_the_same_session_time_in_all_views():
    sync = by_event({"a": 12.30, "b": 4.10, "c": 20.0}, "b")
    assert sync.method == "event"
    assert [float(sync.to_session(view, at)) for view, at in (("a", 12.3), ("b", 4.1), ("c", 20.0))] == [4.1] * 3


def test_slow_motion_makes_a_clock_run_slower():
    sync = by_event({"a": 1.0, "b": 16.0}, "a", slowdown={"b": 8.0})
    assert float(sync.to_session("b", 24.0)) == pytest.approx(2.0)


@pytest.mark.parametrize(("unit", "start"), [(1e9, 1_700_000_000), (1e6, 5_000), (1e3, 77), (1.0, 0.25)])
def test_capture_times_of_any_unit_and_both_forms(tmp_path, unit, start):
    frames = {"a": np.arange(90) / 30, "b": 0.1 + np.arange(60) / 25}
    captured = {"a": start + frames["a"], "b": start + 1.5 + (1 + 50e-6) * (frames["b"] - 0.1)}
    text = lambda value: f"{round(value * unit)}" if unit > 1 else f"{value:.9f}"  # noqa: E731
    (tmp_path / "a.csv").write_text("\n".join(text(t) for t in captured["a"]) + "\n")
    rows = [f"phone1,{text(t)}" for t in captured["b"]]
    (tmp_path / "b.csv").write_text("cam_id,frame_time\n" + "\n".join(rows) + "\n")
    sync = by_timestamps({view: tmp_path / f"{view}.csv" for view in "ab"}, frames, "a")
    assert sync.method == "timestamps"
    exact = 1e-6 if unit != 1e3 else 1e-3
    assert float(sync.to_session("b", 1.1)) == pytest.approx(2.5 + 50e-6, abs=exact)
    assert sync.clocks["b"].drift_ppm == pytest.approx(50, abs=1 if unit != 1e3 else 200)


def test_the_quality_of_capture_times_is_how_far_they_are_from_those_of_the_video(tmp_path):
    """One frame of b was captured 12 ms late; the line through the others hardly moves."""
    frames = {view: np.arange(61) / 30 for view in "ab"}
    late = frames["b"] + 0.012 * (np.arange(61) == 30)
    for view, captured in (("a", frames["a"]), ("b", late)):
        (tmp_path / f"{view}.csv").write_text("\n".join(f"{time:.9f}" for time in captured))
    quality = by_timestamps({view: tmp_path / f"{view}.csv" for view in "ab"}, frames, "a").quality
    assert set(quality) == {"b"}
    assert quality["b"].overlap_s == pytest.approx(2.0)
    assert quality["b"].residual_s == pytest.approx(0.012 / 61, rel=1e-3)
    assert quality["b"].windows == (60, 61)


def test_one_file_may_hold_all_cameras(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("".join(f"left,{i / 30}\nright,{i / 30 + 0.5}\n" for i in range(5)))
    assert read_timestamps(path, "right")[0] == pytest.approx(0.5)
    assert read_timestamps(path, "b", place=1)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.1\nfish\n0.2\n", "'fish' is not a time"),
        ("0.1\n0.3\n0.2\n", "do not increase"),
        ("", "0 times"),
        ("a,1\nb,2\n", "no camera"),
    ],
)
def test_bad_files_of_times_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SyncError, match=message):
        read_timestamps(tmp_path / "t.csv", "c", place=5)


def test_a_missing_frame_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(str(i / 30) for i in range(10)))
    frames = np.arange(9) / 30
    with pytest.raises(SyncError, match="10 times for view a, and its video has 9 frames"):
        by_timestamps({"a": tmp_path / "t.csv"}, {"a": frames}, "a")


def test_two_capture_times_are_enough_and_one_is_not(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1000\n1033\n")
    assert read_timestamps(path) == pytest.approx([1.0, 1.033])
    path.write_text("1000\n")
    with pytest.raises(SyncError, match="has 1 times"):
        read_timestamps(path)
