from __future__ import annotations

import numpy as np
import pytest
from scenes import small_scene

from twoview.errors import SyncError
from twoview.media.audio import read_audio
from twoview.media.video import frames, timeline
from twoview.timeline import ClockMap, Sync
from twoview.visualization.side_by_side import render_sync


def test_views_show_the_same_moment_and_claps_coincide(tmp_path):
    scene = small_scene(tmp_path / "scene", rates=(30.0, 25.0))
    videos = {name: view.video for name, view in scene.views.items()}
    sync = Sync("a", {name: view.clock for name, view in scene.views.items()})
    events = []
    path = render_sync(videos, sync, tmp_path / "out.mp4", events=[1.0], height=120, on_progress=events.append)
    shared = (scene.views["b"].clock.offset_s, timeline(videos["a"]).seconds[-1])
    assert timeline(path).seconds[-1] == pytest.approx(shared[1] - shared[0], abs=0.05)
    assert len(events) == len(timeline(path))
    yellow = [frame.time for frame in frames(path) if frame.rgb[-4, 50, 0] > 200 and frame.rgb[-4, 50, 2] < 120]
    assert min(yellow) == pytest.approx(1.0 - shared[0], abs=0.04)
    left, right = read_audio(path, rate=48000).samples.T
    lags = range(-40, 41)
    best = max(lags, key=lambda lag: float(np.dot(left[2000:-2000], np.roll(right, lag)[2000:-2000])))
    assert abs(best) <= 1


def test_views_without_a_shared_moment_are_refused(tmp_path):
    scene = small_scene(tmp_path / "scene", sound=False, seconds=0.4)
    videos = {name: view.video for name, view in scene.views.items()}
    with pytest.raises(SyncError):
        render_sync(videos, Sync("a", {"a": ClockMap(), "b": ClockMap(50.0)}), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
