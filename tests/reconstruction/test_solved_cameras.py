"""The cameras that a triangulation found: they see what it says they see, in every file that holds them."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from bodies import around, moving_body, two_views
from scipy.spatial.transform import Rotation

from twoview.config import TriangulateConfig
from twoview.geometry.cameras import project
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.solved_cameras import TOMLS, cameras_from_json, cameras_json
from twoview.reconstruction.triangulation import Triangulation, solve_takes
from twoview.skeleton import H36M17
from twoview.storage import records
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync

CLOCKS = {"left, 2": ClockMap(), 'b "x"': ClockMap(0.4, 1.00001)}


def solved(config: TriangulateConfig | None = None, *, delay_frames: float = 0.0, frames: int = 90) -> Triangulation:
    """A take of two views with odd names, the lifter as wrong as one."""
    rng = np.random.default_rng(0)
    tracks, _ = two_views(moving_body(frames, rng), rng, noise=0.002, delay_frames=delay_frames)
    poses, lifted = {}, {}
    for v, (view, clock) in enumerate(CLOCKS.items()):
        time = clock.to_view(tracks.time + 5.0)
        poses[view] = Poses2D(tracks.xy[v], tracks.score[v], time, H36M17, (1920, 1080), view=view)
        lifted[view] = Poses3D(tracks.start[v] - tracks.start[v][:, :1], time, view=view)
    take = Take("swing", poses, Sync("left, 2", CLOCKS))
    return solve_takes([resample(take, 30.0)], lambda p: lifted[p.view], config=config)[0]


@pytest.fixture(scope="module")
def found() -> Triangulation:
    return solved(TriangulateConfig(height_m=1.81))


def test_the_cameras_carry_the_points_of_one_view_to_the_other(found):
    first, second = found.views
    still = replace(found.cameras[second], delay_s=np.zeros(1))
    in_second = still.camera().to_camera(found.points[first])
    moved = in_second[1:-1] - found.cameras[second].delay_s[0] * np.gradient(in_second, found.time, axis=0)[1:-1]
    assert np.abs(moved - found.points[second][1:-1]).max() < 2e-3
    truth = around(90.0)[0] @ around(0.0)[0].T
    turned = found.cameras[second].rotation[0] @ truth.T
    assert np.degrees(Rotation.from_matrix(turned).magnitude()) < 4
    assert found.cameras[first].rotation[0] == pytest.approx(np.eye(3))
    assert found.cameras[second].clock == CLOCKS[second]


def test_a_height_scales_the_cameras_with_the_body(found):
    common, view = solved(), found.views[1]
    scale = found.bones_m.sum() / common.bones_m.sum()
    assert scale != pytest.approx(1, abs=0.01)
    assert found.cameras[view].translation == pytest.approx(scale * common.cameras[view].translation)


def test_a_late_view_has_its_delay(found):
    late = solved(delay_frames=1.5)
    assert late.cameras[late.views[1]].delay_s[0] == pytest.approx(0.05, abs=0.012)
    assert late.cameras[late.views[0]].delay_s[0] == 0


def test_cameras_in_hands_have_one_window_each(found):
    moving = solved(TriangulateConfig(moving_s=1.0))
    for camera in moving.cameras.values():
        assert camera.moves
        assert camera.start_s == pytest.approx(moving.time[0] + np.arange(len(camera.start_s)))
        assert len(camera.rotation) == len(camera.translation) == len(camera.delay_s) == len(camera.start_s)
    assert not any(camera.moves for camera in found.cameras.values())


def test_the_json_comes_back(found, tmp_path):
    path = tmp_path / "cameras.json"
    records.write_json(path, {**records.header("cameras"), **cameras_json(found.cameras, height_m=1.81)})
    content = records.read_json(path)
    assert "1.81 m" in content["convention"]["meters"]
    back = cameras_from_json(content)
    assert list(back) == list(found.views)
    for view, camera in back.items():
        known = found.cameras[view]
        assert (camera.size, camera.focal_px, camera.clock) == (known.size, known.focal_px, known.clock)
        for name in ("start_s", "rotation", "translation", "delay_s"):
            assert np.array_equal(getattr(camera, name), getattr(known, name))


@pytest.mark.parametrize("tool", TOMLS)
def test_the_cameras_of_other_tools_project_to_the_same_pixels(found, tool):
    content = tomllib.loads(TOMLS[tool](found.cameras))
    tables = content["cameras"] if tool == "caliscope" else {k: v for k, v in content.items() if k != "metadata"}
    names = sorted(found.views) if tool == "pose2sim" else list(found.views)
    points = found.points[found.views[0]]
    z_up = np.stack([-points[..., 2], points[..., 0], -points[..., 1]], axis=-1)  # towards the camera, right, up
    for (key, row), view in zip(tables.items(), names, strict=True):
        assert (int(key) == row["cam_id"]) if tool == "caliscope" else (row["name"] == view)
        assert row["size"] == [1920, 1080]
        assert row["fisheye"] is False
        assert row["distortions"] == [0.0] * (4 if tool == "pose2sim" else 5)
        turn = Rotation.from_rotvec(row["rotation"]).as_matrix()
        pixels = (z_up @ turn.T + row["translation"]) @ np.array(row["matrix"]).T
        camera = found.cameras[view]
        seen = camera.camera().project(camera.camera().to_camera(points))
        assert np.abs(pixels[..., :2] / pixels[..., 2:] - seen).max() < 1e-3


def test_reprojected_joints_lie_where_the_view_sees_them(found):
    for view in found.views:
        flat = found.reprojected(view)
        assert flat.size == (1920, 1080)
        assert np.array_equal(flat.time, found.view_time[view])
        camera = found.cameras[view]
        from_center = project(found.points[view], camera.focal_px)
        assert flat.xy == pytest.approx(from_center + np.array([960, 540]), abs=1e-2)
    doubtful = replace(found, random_sigma=np.where(np.arange(17) == 16, 1.0, found.random_sigma))
    assert (doubtful.reprojected(found.views[0]).score[:, 16] < 0.3).all()
    assert (doubtful.reprojected(found.views[0]).score[:, :16] == 1).all()
