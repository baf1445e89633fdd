from __future__ import annotations

import numpy as np
import pytest
from markers import Markers
from scenes import clap_track, small_scene, swinging_person, two_cameras
from synthetic import claps, figure

from twoview.geometry.cameras import principal_point, project
from twoview.media.audio import read_audio
from twoview.media.video import frames, timeline
from twoview.skeleton import COCO17, H36M17, to_h36m


def test_bones_keep_their_length():
    body = figure(np.linspace(0, 20, 200), seed=3)
    for side in ("left", "right"):
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            ends = [body[:, COCO17.index(f"{side}_{joint}")] for joint in (a, b)]
            assert np.ptp(np.linalg.norm(ends[0] - ends[1], axis=-1)) < 1e-9
    assert np.abs(np.diff(body, axis=0)).max() > 0.02


def test_left_is_on_the_right_of_the_picture_and_feet_are_below():
    poses = swinging_person(1)
    where = poses.xyz[0]
    assert where[H36M17.index("left_hip"), 0] > where[H36M17.index("right_hip"), 0]
    assert where[H36M17.index("left_ankle"), 1] > where[H36M17.index("left_knee"), 1] > where[H36M17.index("head"), 1]
    assert (where[:, 2] > 0).all()


def test_the_dots_are_where_the_truth_says(tmp_path):
    scene = small_scene(tmp_path, drift_ppm=50.0, rates=(30.0, 25.0))
    detector = Markers()
    for view in scene.views.values():
        assert timeline(view.video).seconds == pytest.approx(view.poses2d.time, abs=2e-5)
        errors = []
        for index, frame in enumerate(frames(view.video, end=0.5)):
            (person,) = detector(frame.rgb)
            errors.append(np.linalg.norm(person.xy - view.poses2d.xy[index], axis=1))
        assert np.nanmedian(errors) < 0.6
        assert np.isfinite(errors).mean() > 0.95


def test_both_views_show_one_motion(tmp_path):
    scene = small_scene(tmp_path, angle_deg=70.0, drift_ppm=80.0, sound=False, seconds=1.0)
    a, b = scene.views["a"], scene.views["b"]
    assert scene.angle_deg == 70.0
    session = b.clock.to_session(b.poses3d.time)
    inside = session < a.poses3d.time[-1]
    turned = two_cameras(70.0)[1].rotation
    world = (b.poses3d.xyz[inside] - [0, 0, 4.2]) @ turned
    assert a.poses3d.at(session[inside]).xyz - [0, 0, 4.2] == pytest.approx(world, abs=5e-3)


def test_truth_in_two_and_three_dimensions_is_the_same_figure(tmp_path):
    view = small_scene(tmp_path, sound=False, seconds=0.2).views["a"]
    xyz = view.poses3d.xyz
    flat = project(xyz, view.focal_px) + principal_point(np.array(view.poses2d.size))
    hips = [H36M17.index("left_hip"), H36M17.index("right_knee")]
    assert flat[:, hips] == pytest.approx(to_h36m(view.poses2d.xy, view.poses2d.score, COCO17)[0][:, hips], abs=1e-3)


def test_a_clap_is_heard_at_its_time(tmp_path):
    event = 0.30021
    time = np.arange(48000) / 48000
    sound = claps(time, np.array([event]))
    assert time[np.flatnonzero(sound)[0]] == pytest.approx(event, abs=3e-5)
    assert np.abs(sound).max() > 0.1
    later = clap_track(2.0, late_s=0.5).samples[:, 0]
    assert later[: 48000 // 2] == pytest.approx(clap_track(2.0).samples[24000 : 24000 + 24000, 0])
    heard = read_audio(small_scene(tmp_path, seconds=1.0).views["b"].video, rate=48000)
    assert heard.start_s == pytest.approx(0.0, abs=1e-3)
    assert np.abs(heard.samples).max() > 0.1
