"""Two-view 3D of takes: units, clocks, warnings and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bodies import around, error_mm, moving_body, two_views

from twoview.config import TriangulateConfig
from twoview.errors import DetectorError, SyncError
from twoview.poses import Poses2D, Poses3D
from twoview.reconstruction.triangulation import Triangulation, solve_takes
from twoview.skeleton import H36M17, stature
from twoview.takes import Take, resample
from twoview.timeline import ClockMap, Sync

START_B = 0.6  # seconds that view b began after a


def make(seed: int = 0, frames: int = 90, offset: float = START_B, travel: float = 0.3, **how):
    """A take, a stand-in for the lifter that is as wrong as one, and the truth (V, T, J, 3)."""
    rng = np.random.default_rng(seed)
    tracks, truth = two_views(moving_body(frames, rng, travel=travel), rng, **{"noise": 0.004, **how})
    clocks = {"a": ClockMap(), "b": ClockMap(offset_s=offset)}
    poses, lifted = {}, {}
    for v, view in enumerate("ab"):
        time = tracks.time + 5.0 - clocks[view].offset_s
        poses[view] = Poses2D(tracks.xy[v], tracks.score[v], time, H36M17, (1920, 1080), view=view)
        lifted[view] = Poses3D(tracks.start[v] - tracks.start[v][:, :1], time, view=view)
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(offset_s=START_B)})
    return Take("swing", poses, sync), (lambda p: lifted[p.view]), truth


def run(config: TriangulateConfig | None = None, **how) -> tuple[Triangulation, np.ndarray]:
    take, lift, truth = make(**how)
    return solve_takes([resample(take, 30.0)], lift, config=config)[0], truth


def test_every_view_gets_the_take_on_its_own_clock():
    found, truth = run()
    assert found.views == ("a", "b")
    for v, view in enumerate(found.views):
        poses = found.poses(view)
        assert poses.unit == "screen"
        assert poses.time[0] == pytest.approx(5.0 - START_B * v)
        assert error_mm(found.points[view], truth[v][: len(poses)]) < 12
    assert found.angle_deg["b"] == pytest.approx(90, abs=6)
    assert found.warnings == ()
    assert found.summary()["reliable"] == 1.0


def test_the_summary_is_that_of_the_take():
    found, _ = run(TriangulateConfig(height_m=1.7))
    summary = found.summary()
    assert summary["take"] == "swing"
    assert summary["seconds"] == pytest.approx(found.time[-1] - found.time[0])
    assert summary["sigma_mm"] == pytest.approx(1000 * np.median(found.sigma[:, 1:]))
    assert summary["angle_deg"] == found.angle_deg
    assert set(summary["swapped"]) == {"a", "b"}
    half = replace(
        found, swapped={**found.swapped, "b": np.ones_like(found.swapped["b"])}, reliable=found.reliable & False
    )
    assert half.summary()["swapped"]["b"] == 1
    assert half.summary()["reliable"] == 0


def test_the_angle_is_that_of_the_cameras_seen_from_the_athlete():
    for angles in ((0.0, 60.0), (30.0, 150.0)):
        found, _ = run(angles=angles, noise=0.0)
        assert found.angle_deg["a"] == pytest.approx(0, abs=1e-3)
        assert found.angle_deg["b"] == pytest.approx(angles[1] - angles[0], abs=4)
        assert found.residual["b"] < 0.01


def test_the_angle_is_that_from_the_middle_of_the_athletes_path():
    found, truth = run(travel=1.5, noise=0.0)
    root = np.median(truth[:, :, 0], axis=1)
    towards = [-around(angle)[0].T @ own for angle, own in zip((0.0, 90.0), root, strict=True)]
    cosine = towards[0] @ towards[1] / np.linalg.norm(towards[0]) / np.linalg.norm(towards[1])
    assert found.angle_deg["b"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=2)


def test_screen_units_are_those_of_the_picture():
    found, _ = run(noise=0.0)
    points, poses = found.points["a"], found.poses("a")
    across = (points[:, 16, 0] - points[:, 0, 0]) / points[:, 0, 2] * found.focal_px["a"] / 960
    assert np.allclose(poses.xyz[:, 16, 0], across, atol=1e-4)
    meters = np.linalg.norm(points[:, 16] - points[:, 0], axis=-1)
    assert np.allclose(
        found.sigma_of("a")[:, 16] / np.linalg.norm(poses.xyz[:, 16], axis=-1), found.sigma[:, 16] / meters
    )
    with pytest.raises(ValueError, match="height"):
        found.poses("a", origin="camera")


def test_how_far_the_lifter_is_from_the_two_view_3d():
    take, lift, _ = make(noise=0.0)
    grid = resample(take, 30.0)
    found = solve_takes([grid], lift)[0]
    answers = {view: found.poses(view) for view in found.views}
    deeper = np.zeros((17, 3))
    deeper[1:, 2] = 0.05  # meters, all joints but the root
    per_meter = {
        view: 2 * found.focal_px[view] / found.size[view][0] / found.points[view][:, :1, 2:] for view in found.views
    }
    off = {view: replace(own, xyz=own.xyz + deeper * per_meter[view]) for view, own in answers.items()}
    for lifted, expected in ((answers, 0), (off, 50)):
        apart = solve_takes([grid], lambda poses, lifted=lifted: lifted[poses.view])[0].lifter_mm
        assert apart["a"] == pytest.approx(expected, abs=4)
        assert apart["b"] == pytest.approx(expected, abs=4)


def test_a_height_makes_meters():
    found, truth = run(TriangulateConfig(height_m=1.62))
    assert found.unit == "m"
    assert stature(found.bones_m) == pytest.approx(1.62)
    assert found.poses("a", origin="camera").xyz[:, 0, 2].mean() > 2
    size = np.linalg.norm(found.points["a"][:, 0] - found.points["a"][:, 10], axis=-1).mean()
    assert 0.4 < size < 0.9
    assert error_mm(found.points["a"], truth[0]) < 12
    assert np.array_equal(found.sigma_of("b"), found.sigma)


def test_views_that_stand_close_together_are_warned_about():
    found, _ = run(angles=(0.0, 18.0))
    assert any("degrees apart" in warning and "90" in warning for warning in found.warnings)


def test_a_wrong_sync_is_measured_and_warned_about():
    found, _ = run(offset=START_B + 2 / 30, noise=0.003)
    assert found.delay_s["b"] == pytest.approx(-2 / 30, abs=0.015)
    assert any("ms earlier" in warning for warning in found.warnings)


def test_a_view_that_shows_the_scene_later_than_its_clock_says_has_a_positive_delay():
    found, _ = run(delay_frames=2.0, noise=0.003)
    assert found.delay_s["b"] == pytest.approx(2 / 30, abs=0.015)
    assert found.delay_s["a"] == 0
    assert any("view b" in warning and "ms later" in warning for warning in found.warnings)


def test_views_of_different_events_are_not_passed_off_as_one_body():
    take, lift, _ = make(0)
    other, other_lift, _ = make(1)
    mixed = replace(take, poses={"a": take.poses["a"], "b": other.poses["b"]})
    (found,) = solve_takes([resample(mixed, 30.0)], lambda p: (lift if p.view == "a" else other_lift)(p))
    assert any("same event" in warning for warning in found.warnings)


def test_unreliable_frames_are_nan_and_warned_about():
    take, lift, _ = make()
    poses = {}
    for view, own in take.poses.items():
        score = own.score.copy()
        score[20:45, 1:] = 0
        poses[view] = replace(own, xy=np.where(score[..., None] > 0, own.xy, np.nan), score=score)
    (found,) = solve_takes([resample(replace(take, poses=poses), 30.0)], lift)
    assert np.isnan(found.poses("a").xyz[28:38]).all()
    assert np.isfinite(found.poses("a").xyz[:15]).all()
    assert any("reliably" in warning for warning in found.warnings)
    doubt = np.median(found.random_sigma[:, 1:], axis=1)
    assert ((doubt > 0.08) & (doubt < 0.16)).any()
    assert found.reliable.tolist() == (doubt < 0.08).tolist()


def test_refusals_name_the_take_and_the_way_out():
    take, lift, _ = make(frames=90)
    short = {view: poses.between(poses.time[0], poses.time[0] + 0.1) for view, poses in take.poses.items()}
    with pytest.raises(SyncError, match=r"swing.*frames"):
        solve_takes([resample(replace(take, poses=short), 30.0)], lift)
    blind = {
        **take.poses,
        "b": replace(take.poses["b"], xy=take.poses["b"].xy * np.nan, score=take.poses["b"].score * 0),
    }
    nobody = replace(lift(take.poses["b"]), xyz=lift(take.poses["b"]).xyz * np.nan)
    with pytest.raises(DetectorError, match="nobody is seen in view b"):
        solve_takes([resample(replace(take, poses=blind), 30.0)], lambda p: nobody if p.view == "b" else lift(p))
    with pytest.raises(ValueError, match="two views"):
        solve_takes([resample(replace(take, poses={"a": take.poses["a"]}), 30.0)], lift)


def test_takes_come_back_in_order_whatever_their_cameras():
    first, lift, _ = make(0, frames=40)
    second, lift_two, _ = make(1, frames=40)
    turned = {view: replace(p, size=(1080, 1920)) for view, p in second.poses.items()}
    seen = []
    takes = [first, replace(second, name="upright", poses=turned), replace(first, name="third")]
    found = solve_takes(
        [resample(take, 30.0) for take in takes],
        lambda p: (lift if p.size == (1920, 1080) else lift_two)(p),
        on_progress=lambda event: seen.append(event.done),
    )
    assert [f.take for f in found] == ["swing", "upright", "third"]
    assert seen == [1, 2, 3]
