"""The stages on a session: a bad take is left out and named once, and a take that was named is insisted on."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from session_takes import put_take

from twoview.errors import FormatError, SessionError, SyncError
from twoview.storage import records
from twoview.storage.session import Session, ViewFile, open_session
from twoview.workflow import stages
from twoview.workflow.stages import add_videos, detect_views, load_takes


@pytest.fixture
def session(tmp_path) -> Session:
    """Two good takes, and five of which each lacks something."""
    folder = tmp_path / "s"
    for number, name in enumerate(("good1", "good2", "no sync", "undetected", "damaged", "changed", "alike")):
        session = put_take(folder, name, seed=number)
    put_take(folder, "short", seconds=1.2)
    session.sync_path("no sync").unlink()
    session.detection_path("undetected", "b").unlink()
    session.detection_path("damaged", "a").write_bytes(b"PK\x03\x04 half")
    header = {"inputs": {"video": "0-other"}}
    records.save(session.detection_path("changed", "a"), records.load(session.detection_path("good1", "a")), **header)
    return open_session(folder)


def names(takes) -> list[str]:
    return [take.name for take in takes]


def test_takes_that_cannot_teach_are_left_out_and_named_once(session, caplog):
    with caplog.at_level(logging.WARNING):
        assert names(load_takes(session)) == ["alike", "good1", "good2"]
    (record,) = caplog.records
    said = record.getMessage()
    for words in ("left out", "take 'no sync' is not synchronized", "view 'b' of take 'undetected' is not detected"):
        assert words in said
    assert "take 'short' see the athlete together for 0.76 s" in said
    assert "damaged" in said
    assert "take 'changed', has changed" in said


def test_a_take_that_was_named_is_insisted_on(session, caplog):
    for name, kind in (("no sync", SessionError), ("damaged", FormatError), ("short", SyncError)):
        with pytest.raises(kind, match=name):
            load_takes(session, takes=["good1", name])
    with pytest.raises(SessionError, match="no take 'x'"):
        load_takes(session, takes=["x"])
    with pytest.raises(SessionError, match="no take 'x'"):
        load_takes(session, without=["x"])
    assert not caplog.records


def test_takes_are_chosen(session, caplog):
    assert names(load_takes(session, takes=["good2", "good1"])) == ["good1", "good2"]
    bad = ["no sync", "undetected", "damaged", "changed", "short"]
    assert names(load_takes(session, without=["good1", *bad])) == ["alike", "good2"]
    assert not caplog.records
    with pytest.raises(SessionError, match=r"is left"):
        load_takes(session, takes=["good1"], without=["good1"])


def test_a_take_whose_file_is_damaged_blocks_nothing(session, caplog):
    session.take_path("good1").write_text("{")
    assert names(load_takes(open_session(session.folder))) == ["alike", "good2"]
    assert "good1" in caplog.text


def test_where_nothing_is_left_every_reason_is_given(session):
    with pytest.raises(SessionError, match="no sync") as error:
        load_takes(session, without=["alike", "good1", "good2", "damaged", "short"])
    assert "and: view 'b' of take 'undetected'" in error.value.message


def test_a_video_that_is_gone_does_not_stop_the_detection_of_the_others(tmp_path, caplog):
    from scenes import small_scene

    from twoview.config import DetectConfig

    for name in ("one", "two"):
        small_scene(tmp_path / name, seconds=0.5, seed=len(name))
        add_videos(tmp_path / "s", [tmp_path / name / "a.mp4", tmp_path / name / "b.mp4"], take=name)
    shutil.rmtree(tmp_path / "two")
    session, config = open_session(tmp_path / "s"), DetectConfig(detector="markers:Markers")
    found = list(detect_views(session, config=config))
    assert [(row.take, row.view) for row in found] == [("one", "a"), ("one", "b")]
    assert "take 'two', is gone" in caplog.text
    with pytest.raises(SessionError, match="take 'two', is gone"):
        list(detect_views(session, takes=["two"], config=config))


def test_many_takes_are_locked_a_part_at_a_time(tmp_path, caplog, monkeypatch):
    """Each lock is an open file, of which a process may have a thousand."""
    from scenes import small_scene

    from twoview.config import DetectConfig

    monkeypatch.setattr(stages, "LOCKED", 2)
    for name in ("one", "two", "three", "four", "five"):
        small_scene(tmp_path / name, seconds=0.2, size=(160, 120), seed=len(name), sound=False)
        add_videos(tmp_path / "s", [tmp_path / name / "a.mp4", tmp_path / name / "b.mp4"], take=name)
    shutil.rmtree(tmp_path / "two")  # a part of its own, since takes are sorted
    seen, locks = [], []
    for row in detect_views(open_session(tmp_path / "s"), config=DetectConfig(detector="markers:Markers")):
        seen.append(f"{row.take}/{row.view}")
        locks.append(len(list((tmp_path / "s" / ".locks").glob("take-*"))))
    assert seen == [f"{take}/{view}" for take in ("five", "four", "one", "three") for view in "ab"]
    assert max(locks) == 2
    assert "take 'two', is gone" in caplog.text


# --- names of views ---------------------------------------------------------------------------------------------


def filmed_by(path: Path, model: str, **more: str) -> Path:
    """A short film whose file names the phone as an iPhone's does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": model, **more} if model else {}
    with av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as film:
        film.metadata.update(tags)
        stream = film.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            picture = np.full((48, 64, 3), 40 * number, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    return path


def test_views_are_called_as_in_the_other_takes_by_the_phones(tmp_path, caplog):
    first = [filmed_by(tmp_path / "left.mp4", "iPhone 12"), filmed_by(tmp_path / "right.mp4", "iPhone 15")]
    add_videos(tmp_path / "session", first)
    second = [filmed_by(tmp_path / "IMG_7.mp4", "iPhone 15"), filmed_by(tmp_path / "IMG_3.mp4", "iPhone 12")]
    session, take = add_videos(tmp_path / "session", second)
    assert {view: file.path.name for view, file in session.take(take).items()} == {
        "left": "IMG_3.mp4",
        "right": "IMG_7.mp4",
    }
    assert "IMG_7.mp4 is view right" in caplog.text


@pytest.mark.parametrize("models", [("iPhone 12", "iPhone 12"), ("iPhone 12", ""), ("iPhone 12", "iPhone 9")])
def test_phones_that_do_not_tell_views_apart_name_nothing(tmp_path, models):
    add_videos(tmp_path / "session", [filmed_by(tmp_path / f"{v}.mp4", "iPhone 12") for v in ("left", "right")])
    more = [filmed_by(tmp_path / f"IMG_{n}.mp4", model) for n, model in enumerate(models)]
    session, take = add_videos(tmp_path / "session", more)
    assert set(session.take(take)) == {"IMG_0", "IMG_1"}


def test_files_of_one_name_are_called_by_their_folders(tmp_path):
    videos = [filmed_by(tmp_path / phone / "IMG_0001.mp4", "") for phone in ("phoneA", "phoneB")]
    session, take = add_videos(tmp_path / "session", videos)
    assert set(session.take(take)) == {"phoneA", "phoneB"}


def test_a_take_of_an_older_version_knows_its_videos_though_not_the_phones(tmp_path):
    lens = {"com.apple.quicktime.camera.focal_length.35mm_equivalent": "26"}
    videos = [filmed_by(tmp_path / f"{view}.mp4", f"iPhone {view}", **lens) for view in "ab"]
    session, take = add_videos(tmp_path / "session", videos)
    forgotten = {
        view: ViewFile(**{**vars(file), "phone": "", "focal_mm": 0.0}) for view, file in session.take(take).items()
    }
    Session(session.folder).add_take(take, forgotten)
    again = add_videos(tmp_path / "session", videos)[0]
    assert list(again.takes) == [take]
    assert [file.focal_mm for file in again.take(take).values()] == [26, 26]
