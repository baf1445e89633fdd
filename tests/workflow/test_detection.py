"""What was made of a view's detections is made again with them, or removed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import small_scene

from twoview.config import DetectConfig
from twoview.errors import SessionError
from twoview.workflow.detection import write_formats
from twoview.workflow.stages import add_videos, detect_views

CONFIG = DetectConfig(detector="markers:Markers")


@pytest.fixture
def session(tmp_path):
    small_scene(tmp_path, seconds=0.5)
    return add_videos(tmp_path / "s", [tmp_path / "a.mp4", tmp_path / "b.mp4"])[0]


def test_other_formats_and_two_view_3d_follow_new_detections(session):
    for found in detect_views(session, config=CONFIG):
        path = session.detection_path(found.take, found.view)
        write_formats(found.poses, path, ["coco", "openpose"] if found.view == "a" else [])
    folder = session.take_folder("take1") / "detections"
    before, frames = (folder / "a_coco.json").read_bytes(), len(list((folder / "a_openpose").iterdir()))
    (folder / "a_mmpose.json").write_text("mine")
    solid = session.take_folder("take1") / "triangulated" / "a.npz"
    solid.parent.mkdir()
    solid.write_bytes(b"of the old detections")
    assert not any(found.fresh for found in detect_views(session, config=CONFIG))
    assert solid.exists()
    assert all(found.fresh for found in detect_views(session, config=replace(CONFIG, smooth="butterworth")))
    assert (folder / "a_coco.json").read_bytes() != before
    assert len(list((folder / "a_openpose").iterdir())) == frames
    assert not (folder / "b_coco.json").exists()
    assert (folder / "a_mmpose.json").read_text() == "mine"
    assert not solid.exists()


def test_a_video_that_changes_while_it_is_detected_is_noticed(session, tmp_path, monkeypatch):
    from markers import Markers

    def changing(self, rgb):
        with (tmp_path / "a.mp4").open("ab") as file:
            file.write(b"more")
        return found(self, rgb)

    found = Markers.__call__
    monkeypatch.setattr(Markers, "__call__", changing)
    with pytest.raises(SessionError, match=r"a\.mp4 changed while it was detected"):
        list(detect_views(session, config=CONFIG))
    assert not session.detection_path("take1", "a").exists()
