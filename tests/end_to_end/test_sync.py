"""`twoview sync` as a user types it: by sound, by motion, by hand, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import seen_figure, small_scene, two_cameras

from twoview.errors import SyncError
from twoview.media import video
from twoview.storage import records
from twoview.storage.session import open_session
from twoview.timeline import ClockMap, Sync
from twoview.workflow.stages import load_takes, related_views, unrelated

OFFSET = 0.613


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    """Videos with sound (a, b), and without (c, d): the same motion, b and d began later."""
    folder = tmp_path_factory.mktemp("films")
    for names, sound in (("ab", True), ("cd", False)):
        small_scene(folder / names, seconds=4.0, offset_s=OFFSET, size=(160, 120), sound=sound)
    return {
        name: folder / names / f"{own}.mp4" for names in ("ab", "cd") for name, own in zip(names, "ab", strict=True)
    }


@pytest.fixture
def here(films, tmp_path) -> Path:
    for name, path in films.items():
        shutil.copyfile(path, tmp_path / f"{name}.mp4")
    return tmp_path


def pretend_detected(folder: Path, *views: str, delay_s: float = 0.0) -> None:
    """Detections of the drawn figure, as `twoview detect` saves them; the last view shows it `delay_s` later."""
    session = open_session(folder / "session")
    for camera, view in zip(two_cameras(), views, strict=True):
        clock = ClockMap(OFFSET - delay_s) if view == views[-1] else ClockMap()
        poses = seen_figure(camera, start=float(clock.to_session(0.0)), seconds=4.0, clock=clock, view=view)
        path = session.detection_path("take1", view)
        records.save(path, poses, inputs={"video": session.take("take1")[view].fingerprint})


def saved(folder: Path) -> Sync:
    return records.load_as(folder / "session/takes/take1/sync.json", Sync)


def refused(answer, *words: str) -> None:
    assert answer.code == 1, answer
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


def test_json_is_one_object_with_all_that_is_known(twoview, here):
    answer = twoview("sync", "a.mp4", "b.mp4", "--json")
    found = json.loads(answer.out)
    assert found["method"] == "sound"
    assert found["reference"] == "a"
    row = found["views"]["b"]
    assert row["offset_s"] == pytest.approx(OFFSET, abs=0.001)
    assert {"rate", "drift_ppm", "offset_se_s", "drift_se_ppm", "confidence", "overlap_s"} <= set(row)
    assert found["warnings"] == []
    assert row["error_s"] > row["travel_s"] > 0.01 > row["offset_se_s"]
    assert row["overlap_s"] == pytest.approx(4 - OFFSET, abs=0.1)


def test_a_picture_is_drawn_and_the_views_can_be_watched_together(twoview, here):
    answer = twoview("sync", "a.mp4", "b.mp4")
    assert "began 0.6130 s later ± 15 ms (the sound ± 0." in answer.out
    assert "--distance or --refine removes that" in answer.out
    picture = cv2.imread(str(here / "session/takes/take1/sync.png"))
    assert picture.shape[1] > 1000
    assert picture.std() > 20
    assert twoview("render", "--sync").code == 0
    shown = here / "session/takes/take1/sync.mp4"
    assert video.probe(shown).duration_s == pytest.approx(4 - OFFSET, abs=0.1)
    yellow = [f.time for f in video.frames(shown) if f.rgb[-4, 60, 0] > 200 and f.rgb[-4, 60, 2] < 120]
    assert len(yellow) >= 4, "claps are marked"


def test_without_sound_motion_is_used_only_after_detect_with_a_warning(twoview, here):
    refused(twoview("sync", "c.mp4", "d.mp4"), "no sound", "twoview detect")
    refused(twoview("sync", "c.mp4", "d.mp4", "--motion"), "no detections of c, d", "twoview detect")
    pretend_detected(here, "c", "d")
    answer = twoview("sync")
    assert answer.code == 0
    assert "by motion, since sound could not be used" in answer.err
    sync = saved(here)
    assert sync.method == "motion"
    assert sync.clocks["d"].offset_s == pytest.approx(OFFSET, abs=0.008)
    assert (here / "session/takes/take1/sync.png").exists()


def test_of_three_views_the_one_without_sound_is_named_and_added_later(twoview, here):
    answer = twoview("sync", "c.mp4", "a.mp4", "b.mp4")  # the silent one first: the first with sound is the reference
    assert answer.code == 0, answer.err
    assert "c.mp4 has no sound" in answer.err
    assert "c is not related" in answer.err
    assert "a, b go on alone".replace(" ", "") in answer.err.replace(" ", "")
    sync = saved(here)
    assert sync.views == ("a", "b")
    assert sync.clocks["b"].offset_s == pytest.approx(OFFSET, abs=0.001)
    assert "synchronized; not yet c" in twoview("show", "session").out
    assert "up to date" in twoview("sync").out
    assert refused(twoview("sync", "--reference", "c"), "c.mp4 has no sound; a and b have sound") is None
    session = open_session(here / "session")
    assert related_views(session) == ["a", "b"]

    by_hand = twoview("sync", "--reference", "a", "--offset", "c=0.25")
    assert by_hand.code == 0, by_hand.err
    assert "c: its clock is given by hand" in by_hand.err
    assert saved(here).clocks["c"].offset_s == 0.25
    assert saved(here).clocks["b"].offset_s == pytest.approx(OFFSET, abs=0.001)
    assert twoview("sync", "--reference", "a", "--at", "a=1.5", "--at", "c=1.25").code == 0
    assert saved(here).clocks["c"].offset_s == 0.25
    assert unrelated(session, "take1") == []

    pretend_detected(here, "a", "b")
    pretend_detected(here, "a", "c")
    answer = twoview("sync")
    assert "c: its clock is by motion, since it has no sound" in answer.err
    found = saved(here)
    assert found.method == "sound"
    assert found.clocks["b"].offset_s == pytest.approx(OFFSET, abs=0.001)
    assert found.clocks["c"].offset_s == pytest.approx(OFFSET, abs=0.008)
    assert 0.3 < found.quality["c"].confidence <= found.quality["b"].confidence
    assert found.quality["c"].offset_se_s > 0.005  # the way of the sound between a and b is in it


def test_views_that_have_clocks_go_on_without_the_one_that_has_none(twoview, here):
    assert twoview("sync", "a.mp4", "b.mp4", "c.mp4").code == 0
    pretend_detected(here, "a", "b")
    session = open_session(here / "session")
    assert [take.views for take in load_takes(session, ["a", "b"])] == [("a", "b")]
    assert [take.views for take in load_takes(session)] == [("a", "b")]
    pretend_detected(here, "b", "c")
    with pytest.raises(SyncError, match=r"view 'c' is not in the sync(.|\n)*--offset c=(.|\n)*--views a,b"):
        load_takes(session, ["a", "c"])


def test_motion_is_put_beside_the_sound_once_views_are_detected(twoview, here):
    assert "motion differs by" not in twoview("sync", "a.mp4", "b.mp4").out
    pretend_detected(here, "a", "b", delay_s=0.03)
    answer = twoview("sync", "a.mp4", "b.mp4")
    assert "motion differs by -3" in answer.out
    assert "disagree by -3" in answer.err
    assert saved(here).clocks["b"].offset_s == pytest.approx(OFFSET, abs=0.001)
    assert "up to date" in twoview("sync", "a.mp4", "b.mp4").out
    assert twoview("sync", "a.mp4", "b.mp4", "--refine").code == 0
    assert saved(here).clocks["b"].offset_s == pytest.approx(OFFSET - 0.03, abs=0.008)
    assert saved(here).method == "sound+motion"


@pytest.mark.parametrize(
    ("options", "method", "offset"),
    [
        (["--offset", "0.61"], "offset", 0.61),
        (["--offset", "a=-0.5", "--reference", "b"], "offset", -0.5),
        (["--at", "a=2.30", "--at", "b=1.10"], "event", 1.2),
        (["--timestamps", "a.csv,b.csv"], "timestamps", 0.25),
        (["--offset", "0.2", "--capture-fps", "b=120"], "offset", 0.2),
    ],
)
def test_by_hand_is_exact_and_recorded(twoview, here, options, method, offset):
    for name, late in (("a", 0.0), ("b", 0.25)):
        rows = [f"{round((9 + late + i / 30) * 1e9)}" for i in range(120)]
        (here / f"{name}.csv").write_text("\n".join(rows))
    answer = twoview("sync", "a.mp4", "b.mp4", *options)
    assert answer.code == 0, answer.err
    sync = saved(here)
    view = sync.views[1]
    assert sync.method == method
    assert sync.clocks[view].offset_s == pytest.approx(offset, abs=1e-6)
    assert sync.clocks[view].rate == pytest.approx(0.25 if "--capture-fps" in options else 1.0, abs=1e-6)
    assert not (here / "session/takes/take1/sync.png").exists()


def test_distances_remove_the_travel_time_of_the_sound(twoview, here):
    assert twoview("sync", "a.mp4", "b.mp4", "--distance", "a=3,b=6.43").code == 0
    assert saved(here).clocks["b"].offset_s == pytest.approx(OFFSET + 0.01, abs=0.001)
    assert saved(here).quality["b"].error_s < 0.003
    refused(twoview("sync", "a.mp4", "b.mp4", "--distance", "b=6.43"), "the distance of a is missing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--offset", "x"], "--offset x: expected a number"),
        (["--offset", "nan"], "--offset nan: expected a number"),
        (["--offset", "c=1"], "no view 'c'"),
        (["--offset", "a=1"], "a is the reference"),
        (["--at", "a=1"], "--at is missing for b"),
        (["--at", "a=1", "--at", "a=2"], "--at a=2"),
        (["--offset", "1", "--motion"], "--motion and --offset"),
        (["--timestamps", "absent.csv"], "absent.csv"),
        (["--timestamps", "a.csv,b.csv,c.csv"], "3 files of capture times for 2 views"),
        (["--capture-fps", "b=3", "--offset", "1"], "plays at 30 frames per second"),
        (["--reference", "z"], "reference 'z'"),
        (["--offset", "61"], "no moment that both filmed"),
        (["--refine"], "no detections of a, b"),
    ],
)
def test_what_contradicts_itself_is_refused(twoview, here, options, message):
    refused(twoview("sync", "a.mp4", "b.mp4", *options), message)
    assert not list(here.rglob("sync.json"))


def test_one_recording_given_twice_is_at_0_with_a_warning(twoview, here):
    shutil.copyfile(here / "a.mp4", here / "copy.mp4")
    for second in ("copy.mp4", "a.mp4"):
        answer = twoview("sync", "a.mp4", second, "--views", "x,y", "--session", f"of_{second}")
        assert answer.code == 0, answer.err
        assert "the same recording" in answer.err
        assert "began 0.0000 s" in answer.out


def test_slow_motion_is_read_from_the_file(twoview, here):
    import av

    out = av.open(str(here / "slow.mp4"), "w", options={"movflags": "use_metadata_tags"})
    with av.open(str(here / "b.mp4")) as old, out as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.metadata["com.android.capture.fps"] = "120.0"
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert video.read_slowdown(here / "slow.mp4") == pytest.approx(4.0)
    assert video.read_slowdown(here / "b.mp4") == 1.0
    assert twoview("sync", "a.mp4", "slow.mp4", "--offset", "0.5").code == 0
    assert saved(here).clocks["slow"].rate == pytest.approx(0.25)
    assert np.isnan(saved(here).loop_s)
