"""Pictures of held-out takes in the report of a run."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from small_takes import PAPER, take

from twoview.media.writer import VideoWriter
from twoview.takes import resample
from twoview.training import pictures
from twoview.training.clips import cut


@pytest.fixture
def lifted(monkeypatch):
    """Lifters that know the depth, or none of it; what is lifted, and with what, is noted."""
    from small_takes import body

    from twoview.poses import Poses3D

    calls = []

    def lift(model, poses):
        calls.append((model, poses.time[0], poses.time[-1]))
        xyz = body(poses.time)
        return Poses3D((xyz - xyz[:, :1]) * (1 if model == "after" else [1, 1, 0]), poses.time, poses.skeleton)

    monkeypatch.setattr(pictures, "lift", lift)
    return calls


def test_the_held_out_part_of_every_take_is_drawn_before_and_after(lifted, tmp_path):
    takes = [take("one"), take("two", offset=0.2), take("three")]
    clips = [clip for one in takes[1:] for clip in cut(resample(one, 30.0), length=PAPER.clip_length)][3:]
    found = pictures.held_out_pictures(takes, clips, "before", "after", {})
    assert [caption for caption, _ in found] == ["two, view a", "three, view a"]
    assert [model for model, *_ in lifted] == ["after", "before"] * 2
    assert lifted[0][1] == pytest.approx(clips[0].time[0], abs=1 / 30)
    assert lifted[0][1] > 0.3
    sheets = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for _, jpeg in found]
    assert all(sheet.shape == sheets[0].shape for sheet in sheets)
    rows = sheets[0].shape[0] // 3
    assert np.abs(sheets[0][rows : 2 * rows].astype(int) - sheets[0][2 * rows :][:rows]).max() > 60


def test_a_video_is_shown_and_one_that_cannot_be_read_costs_no_report(lifted, tmp_path):
    video, broken = tmp_path / "a.mp4", tmp_path / "broken.mp4"
    with VideoWriter(video, (1280, 720), 10) as writer:
        for _ in range(30):
            writer.write(np.full((720, 1280, 3), 90, np.uint8))
    broken.write_bytes(b"no video")
    one = take("one")
    clips = cut(resample(one, 30.0), length=PAPER.clip_length)
    drawn = [
        pictures.held_out_pictures([one], clips, "before", "after", videos)[0][1]
        for videos in ({}, {"one": {"a": broken}}, {"one": {"a": video}})
    ]
    assert drawn[0] == drawn[1] != drawn[2]
