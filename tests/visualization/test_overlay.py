from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scenes import small_scene
from videos import encode

from twoview.errors import FormatError, StorageError, VideoError
from twoview.media.video import frames, timeline
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17
from twoview.visualization.drawing import LEFT, PAPER, RIGHT, FigureSpace, draw_overlay, placed
from twoview.visualization.overlay import contact_sheet, render


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    return small_scene(tmp_path_factory.mktemp("scene"), seconds=0.5, sound=False).views["a"]


def near(rgb: np.ndarray, color: tuple[int, int, int], within: int = 40) -> np.ndarray:
    return (np.abs(rgb.astype(int) - color) < within).all(axis=-1)


def test_the_overlay_lies_on_the_joints_in_their_sides_colors():
    rgb = np.zeros((100, 100, 3), np.uint8)
    xy = np.full((17, 2), np.nan)
    score = np.zeros(17)
    for joint, at in (
        ("left_hip", (20, 30)),
        ("left_knee", (20, 80)),
        ("right_hip", (60, 30)),
        ("right_knee", (60, 80)),
    ):
        xy[H36M17.index(joint)], score[H36M17.index(joint)] = at, 1.0
    draw_overlay(rgb, xy, score, H36M17, extent=100)
    assert near(rgb[55, 15:26], LEFT).any()
    assert near(rgb[55, 55:66], RIGHT).any()
    assert not rgb[:, 35:50].any()


def test_nothing_seen_draws_nothing():
    rgb = np.zeros((10, 10, 3), np.uint8)
    draw_overlay(rgb, np.full((17, 2), np.nan), np.zeros(17), COCO17)
    assert not rgb.any()


def test_every_frame_is_drawn_at_its_time_and_reported(tmp_path, view):
    events = []
    path = render(view.video, view.poses2d, view.poses3d, tmp_path / "out.mp4", height=240, on_progress=events.append)
    assert timeline(path).seconds == pytest.approx(timeline(view.video).seconds, abs=2e-5)
    assert [event.done for event in events] == list(range(1, 16))
    rgb = next(frames(path)).rgb
    assert rgb.shape == (274, 320 + 2 * 144, 3)
    for panel in (rgb[34:, 320:464], rgb[34:, 464:]):
        assert near(panel, LEFT, 60).any()
        assert near(panel, RIGHT, 60).any()


def test_a_video_of_slow_uneven_frames_gets_the_figures_of_its_own_times(tmp_path, view):
    sparse = replace(view.poses3d, xyz=view.poses3d.xyz[::2], time=view.poses3d.time[::2])
    assert render(view.video, view.poses2d, sparse, tmp_path / "out.mp4", height=120).exists()


def test_the_sheet_shows_before_and_after(tmp_path, view):
    before = replace(view.poses3d, xyz=view.poses3d.xyz * np.array([1, 1, 0.9], np.float32))
    path = contact_sheet(view.video, view.poses2d, view.poses3d, tmp_path / "sheet.png", before=before, count=3)
    rgb = cv2.imread(str(path))[..., ::-1]
    assert rgb.shape == (3 * 300 + 34, 3 * 236, 3)
    for row in (1, 2):
        assert near(rgb[34 + 300 * row : 334 + 300 * row], LEFT, 60).any()


def test_a_side_view_shows_depth_and_the_front_view_does_not():
    xyz = np.zeros((1, 17, 3), np.float32)
    xyz[0, :, 1] = np.linspace(-0.8, 0.8, 17)
    wrist = H36M17.index("left_wrist")
    xyz[0, wrist] = [0.0, 0.0, -0.7]  # towards the camera
    space = FigureSpace.of(Poses3D(xyz, np.zeros(1)))
    width = {}
    for name in ("front", "side"):
        blue = near(space.draw(xyz[0], np.zeros(2), (200, 300), name), LEFT, 90)
        width[name] = np.ptp(np.flatnonzero(blue.any(axis=0)))
    assert width["side"] > 4 * width["front"]


def test_missing_frames_leave_an_empty_floor():
    poses = Poses3D(np.full((3, 17, 3), np.nan), np.arange(3.0))
    space = FigureSpace.of(poses)
    rgb = space.draw(*(part[0] for part in placed(poses)), (100, 100), "three-quarter")
    assert rgb.shape == (100, 100, 3)
    assert near(rgb, PAPER, 60).all()


def test_poses_of_another_video_are_refused(tmp_path, view):
    elsewhere = replace(view.poses3d, time=view.poses3d.time + 100)
    with pytest.raises(VideoError, match="share no time"):
        render(view.video, view.poses2d, elsewhere, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_interrupting_leaves_nothing(tmp_path, view):
    def stop(event):
        if event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(view.video, view.poses2d, view.poses3d, tmp_path / "out.mp4", height=120, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path, view):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        contact_sheet(view.video, view.poses2d, view.poses3d, tmp_path / "file" / "sheet.png", count=1)


def test_a_video_in_which_nobody_is_seen_can_still_be_drawn(tmp_path, view):
    count = len(view.poses2d)
    nobody = Poses2D(
        np.full((count, 17, 2), np.nan), np.zeros((count, 17)), view.poses2d.time, COCO17, view.poses2d.size
    )
    blank = replace(view.poses3d, xyz=np.full_like(view.poses3d.xyz, np.nan))
    assert contact_sheet(view.video, nobody, blank, tmp_path / "sheet.png", count=2).exists()


def test_the_figure_goes_down_in_a_crouch_and_the_feet_stay_on_the_floor():
    count = 60
    bend = np.linspace(0, 0.5, count)
    xyz = np.zeros((count, 17, 3), np.float32)
    xyz[:, :, 1] = np.linspace(-0.7, 0.0, 17)
    for side in ("left", "right"):
        xyz[:, H36M17.index(f"{side}_ankle"), 1] = 0.9 - bend
    poses = Poses3D(xyz - xyz[:, :1], np.arange(count) / 30)
    shown, _ = placed(poses)
    feet = shown[:, H36M17.index("left_ankle"), 1]
    assert np.ptp(feet) < 0.04
    assert shown[-1, 0, 1] - shown[0, 0, 1] == pytest.approx(0.5, abs=0.04)
    still = placed(replace(poses, origin="camera"))[0]
    assert np.ptp(still[:, 0, 1]) == 0.0


def test_a_truncated_video_is_drawn_up_to_its_last_frame(tmp_path):
    path = encode(tmp_path / "a.mp4", count=120, g="12")
    times = timeline(path).seconds
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    flat = Poses2D(np.full((120, 17, 2), 20.0), np.ones((120, 17)), times, COCO17, (64, 48))
    solid = Poses3D(np.random.default_rng(0).normal(size=(120, 17, 3)), times)
    assert 40 < len(timeline(render(path, flat, solid, tmp_path / "out.mp4", height=120))) < 80
    assert contact_sheet(path, flat, solid, tmp_path / "sheet.png").exists()


def test_figures_of_different_units_are_not_compared(tmp_path, view):
    with pytest.raises(FormatError, match="'screen'"):
        contact_sheet(
            view.video, view.poses2d, view.poses3d, tmp_path / "a.png", before=replace(view.poses3d, unit="screen")
        )


def test_diverged_poses_can_still_be_drawn():
    xyz = np.random.default_rng(0).normal(scale=1e6, size=(5, 17, 3))
    space = FigureSpace.of(Poses3D(xyz, np.arange(5.0), unit="m"))
    assert space.reach / space.grid < 20
    assert space.draw(xyz[0], np.zeros(2), (100, 100), "side").shape == (100, 100, 3)
