"""`twoview detect` as typed: several people, another person, several videos at once, other tools' detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blobs import Blobs, film, jumper, middle, runner, walker

from twoview.storage import records
from twoview.storage.session import open_session
from twoview.timeline import ClockMap, Sync
from twoview.workflow.stages import add_videos, save_sync

DETECTOR = ("--detector", "blobs:Blobs")


@pytest.fixture
def two_people(tmp_path) -> Path:
    """A session of one synchronized take; in view b the bystander is nearer than the athlete."""
    videos = [
        film(tmp_path / "a.mp4", jumper(140, 120), walker(250, 60), frames=120),
        film(tmp_path / "b.mp4", jumper(80, 95), walker(170, 130), frames=120),
    ]
    session, take = add_videos(tmp_path / "session", videos)
    save_sync(session, take, Sync("a", {"a": ClockMap(), "b": ClockMap()}), settings={})
    return tmp_path / "session"


def found(session: Path, view: str, take: str = "take1") -> float:
    """Where the athlete's middle was taken to be, px from the left."""
    poses = records.load(open_session(session).detection_path(take, view))
    return float(np.nanmedian(middle(poses)[:, 0]))


def test_the_views_choose_the_athlete_together_and_people_png_is_named(twoview, two_people):
    answer = twoview("detect", *DETECTOR)
    assert answer.code == 0
    assert found(two_people, "a") == pytest.approx(140, abs=3)
    assert found(two_people, "b") == pytest.approx(80, abs=3)
    said = next(line for line in answer.out.splitlines() if line.startswith("take1/b: 2 people seen; person"))
    assert "by all views together" in said
    assert "% sure" in said
    assert "session/takes/take1/detections/b.people.png" in said
    assert "to choose another: twoview detect --take take1 --views b --person N" in said
    assert (two_people / "takes" / "take1" / "detections" / "b.people.png").exists()
    again = twoview("detect", *DETECTOR)
    assert again.out.count("up to date") == 2
    assert said in again.out
    assert found(two_people, "b") == pytest.approx(80, abs=3)


def test_a_view_that_cannot_tell_asks_and_the_others_are_kept(twoview, two_people):
    """Without a sync each view chooses alone, and in b the bystander is nearer than the athlete."""
    (two_people / "takes" / "take1" / "sync.json").unlink()
    folder = two_people / "takes" / "take1" / "detections"
    careful = (*DETECTOR, "--set", "detect.sureness=0.9")
    answer = twoview("detect", *careful)
    assert answer.code == 1
    assert "take1/b: 2 people, and who is the athlete is not clear: person" in answer.err
    assert "b.people.png, then: twoview detect --take take1 --views b --person N" in answer.err
    assert "take1  a" in answer.out
    assert "saved" not in answer.out
    assert found(two_people, "a") == pytest.approx(140, abs=3)
    assert (folder / "b.people.png").exists()
    assert not (folder / "b.npz").exists()
    searches = Blobs.searches
    assert twoview("detect", *careful, "--views", "b", "--person", "1").code == 0
    assert twoview("detect", *careful).code == 0
    assert Blobs.searches == searches


def test_auto_takes_the_likeliest_with_a_warning(twoview, two_people):
    (two_people / "takes" / "take1" / "sync.json").unlink()
    answer = twoview("detect", *DETECTOR, "--person", "auto")
    assert answer.code == 0
    assert "warning: take1/b: person" in answer.err
    assert "may not be the athlete" in answer.err
    assert found(two_people, "b") > 150


def test_a_view_that_is_detected_later_is_chosen_with_those_before(twoview, two_people):
    assert twoview("detect", *DETECTOR, "--views", "a").code == 0
    assert twoview("detect", *DETECTOR, "--views", "b").code == 0
    assert found(two_people, "b") == pytest.approx(80, abs=3)


def test_a_person_chosen_by_hand_is_kept_until_auto_and_needs_no_network(twoview, two_people):
    twoview("detect", *DETECTOR)
    searches, built = Blobs.searches, Blobs.built
    answer = twoview("detect", *DETECTOR, "--views", "b", "--person", "0")
    assert answer.code == 0, answer.err
    assert found(two_people, "b") > 150
    assert twoview("detect", *DETECTOR).out.count("up to date") == 2
    assert found(two_people, "b") > 150
    assert twoview("detect", *DETECTOR, "--person", "auto").code == 0
    assert found(two_people, "b") == pytest.approx(80, abs=3)
    assert (Blobs.searches, Blobs.built) == (searches, built)  # all from the tracks that were kept


def test_a_person_is_one_videos_and_a_number_that_there_is(twoview, two_people):
    answer = twoview("detect", *DETECTOR, "--person", "1")
    assert answer.code == 1
    assert "2 were asked for: take1/a, take1/b" in answer.err
    assert "--views a --person 1" in answer.err
    assert "leave `person` out of a config file" in answer.err
    answer = twoview("detect", *DETECTOR, "--views", "b", "--person", "7")
    assert answer.code == 1
    assert "no person 7" in answer.err
    assert "there are 0, 1" in answer.err or "there are 1, 0" in answer.err
    assert twoview("detect", *DETECTOR, "--person", "him").code == 1


def test_several_videos_at_once_give_the_same(twoview, two_people):
    twoview("detect", *DETECTOR)
    folder = two_people / "takes" / "take1" / "detections"
    before = {view: np.load(folder / f"{view}.npz")["xy"] for view in "ab"}
    for path in folder.iterdir():
        path.unlink()
    assert twoview("detect", *DETECTOR, "--jobs", "2").code == 0
    for view, xy in before.items():
        assert np.load(folder / f"{view}.npz")["xy"].tobytes() == xy.tobytes()


def test_one_video_without_anybody_does_not_stop_the_others(twoview, tmp_path):
    empty = film(tmp_path / "a.mp4", frames=20)
    add_videos(tmp_path / "session", [empty, film(tmp_path / "b.mp4", runner)])
    answer = twoview("detect", *DETECTOR)
    assert answer.code == 1
    assert "a.mp4: no person found in any of 20 frames" in answer.err
    assert (tmp_path / "session" / "takes" / "take1" / "detections" / "b.npz").exists()
    assert not (tmp_path / "session" / "takes" / "take1" / "detections" / "a.npz").exists()


@pytest.mark.parametrize("kind", ["openpose", "alphapose", "coco", "mmpose", "deeplabcut"])
def test_written_for_other_tools_and_imported_again(twoview, two_people, kind):
    answer = twoview("detect", *DETECTOR, "--format", kind)
    assert answer.code == 0
    folder = two_people / "takes" / "take1" / "detections"
    written = sorted(path.name for path in folder.iterdir() if kind in path.name)
    assert len(written) == 2
    for name in written:
        assert name in answer.out
    before = np.load(folder / "b.npz")["xy"]
    path = f"{folder}/{written[0].replace('a_', '{view}_')}"
    answer = twoview("detect", "--from", path, "--set", "check=false")
    assert answer.code == 0, answer.err
    np.testing.assert_allclose(np.load(folder / "b.npz")["xy"], before, atol=2e-3)
    assert kind in records.load(folder / "b.npz").source.made_by.lower()


def test_imported_detections_are_kept_until_a_detector_is_named(twoview, two_people):
    twoview("detect", *DETECTOR, "--format", "coco")
    kept = two_people / "takes" / "take1" / "detections" / "b.npz"
    source = str(kept.with_name("b_coco.json"))
    assert twoview("detect", "--views", "b", "--from", source).code == 0
    answer = twoview("detect", "--views", "b")
    assert answer.code == 0
    assert "up to date" in answer.out
    assert "kept as imported from" in answer.out
    assert "coco" in records.load(kept).source.made_by.lower()
    answer = twoview("detect", "--views", "b", "--person", "1")
    assert answer.code == 1
    assert f"--person 1 --from {source}" in " ".join(answer.err.split())
    assert twoview("detect", *DETECTOR, "--views", "b").code == 0
    assert "coco" not in records.load(kept).source.made_by.lower()


def test_detections_of_one_video_are_not_taken_for_two(twoview, two_people, tmp_path):
    (tmp_path / "one.json").write_text("[]")
    answer = twoview("detect", "--from", "one.json")
    assert answer.code == 1
    assert "--views a" in answer.err
    answer = twoview("detect", "--from", "absent.json", "--views", "a")
    assert answer.code == 1
    assert "absent.json" in answer.err


def test_a_format_that_there_is_not_is_refused_before_anything_runs(twoview, two_people):
    answer = twoview("detect", *DETECTOR, "--format", "vicon")
    assert answer.code == 1
    assert "unknown format of detections 'vicon'; known: openpose" in answer.err
    assert not (two_people / "takes" / "take1" / "detections").exists()


def test_a_video_replaced_under_its_name_is_noticed(twoview, tmp_path):
    videos = [film(tmp_path / "a.mp4", runner, frames=40), film(tmp_path / "b.mp4", runner, frames=50)]
    add_videos(tmp_path / "session", videos)
    assert twoview("detect", *DETECTOR).code == 0
    film(tmp_path / "a.mp4", lambda f: (200, 120, 90.0), frames=30)
    answer = twoview("detect", *DETECTOR)
    assert answer.code == 1
    assert "'a', take 'take1', has changed" in answer.err
    assert "twoview sync" in answer.err
