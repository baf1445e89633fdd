"""Clocks from motion, on a drawn figure seen by cameras whose truth is known, and on motion capture."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
from bodies import moving_body
from places import SHARED, TESTS
from scenes import seen_figure as seen
from scenes import two_cameras

from twoview.config import SyncConfig
from twoview.errors import SyncError
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, H36M17
from twoview.synchronization.motion import (
    _combined,
    compare_with_motion,
    match_poses,
    motion_delay,
    refine_with_motion,
    relate_poses,
)
from twoview.synchronization.motion_clocks import trajectories
from twoview.synchronization.several_views import Relation, inverse
from twoview.timeline import ClockMap, ClockQuality, Sync

MOCAP = SHARED / "data/mocap/public"


def benchmark():
    """The benchmark as a module."""
    path = TESTS / "benchmarks" / "motionsync.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_motion", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str(path.parent))  # it shares the virtual cameras with its neighbors
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def error_s(found: Relation, clock: ClockMap) -> float:
    at = found.middle_s
    return abs(float(found.clock.to_session(at)) - float(clock.to_session(at)))


@pytest.mark.parametrize("angle", [20.0, 90.0, 150.0])
@pytest.mark.parametrize("rate", [25.0, 60.0])
def test_an_offset_is_found_between_frames_at_any_angle_and_rate(angle, rate):
    a, b = two_cameras(angle)
    clock = ClockMap(7.3141)
    found = match_poses(seen(a, seconds=9), seen(b, start=1.234, rate=rate, clock=clock))
    assert found.refusal == ""
    assert error_s(found, clock) < 0.006
    assert found.quality.confidence > 0.9
    assert found.quality.overlap_s == pytest.approx(7.5, abs=0.6)


def test_slow_motion_is_related_by_its_rate():
    a, b = two_cameras()
    clock = ClockMap(-2.0, 1 / 4)  # 120 frames per second shown at 30
    found = match_poses(seen(a), seen(b, start=0.5, rate=120, clock=clock, seconds=6), slowdown=(1.0, 4.0))
    assert found.refusal == ""
    assert error_s(found, clock) < 0.006
    assert found.clock.rate == 1 / 4


def test_a_long_take_shows_its_drift_and_how_well_it_is_known():
    a, b = two_cameras()
    found = [
        match_poses(seen(a, seconds=45), seen(b, start=1.0, seconds=43, clock=ClockMap(1.0, 1 + ppm * 1e-6)))
        for ppm in (0, 60)
    ]
    drift, faster = (1e6 * (relation.clock.rate - 1) for relation in found)
    for relation in found:
        assert 5 < relation.quality.drift_se_ppm < 40  # less than is known without looking, and not nothing
    assert abs(drift) < 3 * found[0].quality.drift_se_ppm
    assert abs(faster - 60) < 3 * found[1].quality.drift_se_ppm
    assert 30 < faster - drift < 70


def test_gaps_and_lone_jumps_do_not_matter():
    a, b = two_cameras()
    rng, good = np.random.default_rng(3), seen(b, start=1.0, clock=ClockMap(2.0))
    xy, score = np.array(good.xy), np.array(good.score)
    xy[rng.random(score.shape) < 0.03] += 80.0
    gone = rng.random(score.shape) < 0.1
    gone[60:90, 5:11] = True
    xy[gone], score[gone] = np.nan, 0.0
    found = match_poses(seen(a), replace(good, xy=xy, score=score))
    assert found.refusal == ""
    assert error_s(found, ClockMap(2.0)) < 0.010


def test_other_motion_is_refused():
    a, b = two_cameras()
    found = match_poses(seen(a, seed=1), seen(b, seed=2))
    assert "too little shared motion" in found.refusal
    assert found.quality.confidence < 0.5


def test_someone_who_stands_still_is_refused():
    a, b = two_cameras()
    rng = np.random.default_rng(1)
    still = [replace(p, xy=p.xy[:1] + rng.normal(size=p.xy.shape)) for p in (seen(a), seen(b))]
    assert "too little shared motion" in match_poses(*still).refusal


def test_motion_that_repeats_itself_is_refused():
    a, b = two_cameras()
    wave = [np.concatenate([p.xy[:30], p.xy[30:0:-1]] * 6) for p in (seen(a, noise=0.3), seen(b, noise=0.3))]
    both = [Poses2D(xy, np.ones(xy.shape[:2]), np.arange(len(xy)) / 30, COCO17, (480, 360)) for xy in wave]
    assert "repeats itself" in match_poses(both[0], both[1].between(2.5, 9.0)).refusal


def test_a_short_or_empty_view_is_refused_with_its_length():
    a, b = two_cameras()
    empty = seen(b)
    empty = replace(empty, xy=np.full_like(empty.xy, np.nan), score=np.zeros_like(empty.score))
    assert "shows the athlete for 0.0 s, and 2 s are needed" in match_poses(seen(a), empty).refusal
    assert "b shows the athlete for 1." in match_poses(seen(a), seen(b, seconds=1.5, view="b")).refusal


@pytest.mark.parametrize("lag", [-0.05, 0.013, 0.05])
def test_the_refinement_removes_the_error_of_the_sound(lag):
    a, b = two_cameras()
    clock = ClockMap(3.0, 1 + 30e-6)
    poses = {"a": seen(a, view="a"), "b": seen(b, start=0.7, clock=clock, view="b")}
    delay, error = motion_delay(poses["a"], poses["b"], replace(clock, offset_s=3.0 + lag))
    assert delay == pytest.approx(-lag, abs=0.006)
    assert error < 0.006
    by_sound = Sync("a", {"a": ClockMap(), "b": replace(clock, offset_s=3.0 + lag)}, quality={"b": ClockQuality(1.0)})
    better = refine_with_motion(by_sound, poses)
    assert better.method == "sound+motion"
    assert better.clocks["b"].offset_s == pytest.approx(3.0, abs=0.006)
    assert better.clocks["b"].rate == clock.rate
    assert bool(better.warnings) == (abs(lag) > 0.025)


def test_sound_and_motion_are_combined_by_their_errors():
    """The truth lies at 0; the sound is off by its way, the motion by its own error."""
    rng = np.random.default_rng(0)
    for sound in (0.0, 0.002, 0.0075):  # errors that really are there; 7.5 ms are expected
        for motion in (0.0005, 0.002, 0.004, 0.007):
            of_sound, of_motion = rng.normal(0, sound, 2000), rng.normal(0, motion, 2000)
            moved = [_combined(m - s, 0.0075, motion) for s, m in zip(of_sound, of_motion, strict=True)]
            left = of_sound + np.array([shift for shift, _ in moved])
            assert np.mean(np.abs(left) > np.abs(of_sound) + 0.0021) < 0.006
            assert np.mean(np.abs(left) < 2 * np.array([error for _, error in moved])) > 0.93
            if sound == 0.0075:
                assert np.sqrt(np.mean(left**2)) < min(1.8 * motion, 0.9 * sound)
    assert _combined(0.05, 0.0075, 0.001)[0] == pytest.approx(0.05, abs=5e-4)  # no way of sound is as long as that


def test_motion_that_knows_less_than_the_sound_corrects_nothing():
    """Gentle movement under noise: the motion's error of tens of ms must not replace that of the sound."""
    a, b = two_cameras()
    clock, rng = ClockMap(3.0), np.random.default_rng(4)
    poses = {"a": seen(a, seconds=4, view="a"), "b": seen(b, start=0.7, seconds=3, clock=clock, view="b")}
    for view, good in poses.items():
        still = np.mean(good.xy, axis=0) + 0.06 * (good.xy - np.mean(good.xy, axis=0))
        slow = np.cumsum(rng.normal(0, 0.4, good.xy.shape), axis=0)
        poses[view] = replace(good, xy=still + slow - slow.mean(axis=0))
    quality = ClockQuality(0.97, 1e-5, 5.0, 3.0, travel_s=0.0146)
    by_sound = Sync("a", {"a": ClockMap(), "b": ClockMap(3.008)}, quality={"b": quality})
    delay, error = motion_delay(poses["a"], poses["b"], by_sound.clocks["b"])
    assert np.isnan(delay) or error > 0.0075
    with pytest.raises(SyncError, match=r"motion cannot correct the clocks: b"):
        refine_with_motion(by_sound, poses)
    poses["c"] = seen(two_cameras(40)[1], start=0.5, seconds=4, clock=ClockMap(1.0), view="c")
    poses["a"] = seen(a, seconds=4, view="a")
    three = replace(
        by_sound, clocks={**by_sound.clocks, "c": ClockMap(1.008)}, quality={"b": quality, "c": quality}
    )  # fmt: skip
    partly = refine_with_motion(three, poses)
    assert partly.clocks["b"] == by_sound.clocks["b"]
    assert partly.quality["b"] == quality
    assert partly.warnings[0].startswith("b ")
    assert "stays that of the sound" in partly.warnings[0]
    assert partly.clocks["c"].offset_s == pytest.approx(1.0, abs=0.004)
    assert partly.quality["c"].travel_s == 0
    assert partly.quality["c"].error_s < 0.0146
    assert partly.quality["c"].confidence > quality.confidence


def test_a_warning_gives_both_numbers_where_sound_and_motion_disagree():
    a, b = two_cameras()
    poses = {"a": seen(a, view="a"), "b": seen(b, start=0.7, clock=ClockMap(3.0), view="b")}
    for wrong, warned in ((0.005, False), (0.04, True)):
        by_sound = Sync("a", {"a": ClockMap(), "b": ClockMap(3.0 + wrong)}, quality={"b": ClockQuality(1.0)})
        checked = compare_with_motion(by_sound, poses)
        assert checked.clocks == by_sound.clocks
        assert checked.quality["b"].motion_s == pytest.approx(-wrong, abs=0.006)
        assert bool(checked.warnings) == warned
    assert "3.040 s after a by sound, 3.0" in checked.warnings[0]


def test_three_views_are_solved_together_and_a_stranger_is_refused():
    a, b = two_cameras(70)
    c = two_cameras(140)[1]
    poses = {
        "a": seen(a), "b": seen(b, start=0.5, clock=ClockMap(1.0)), "c": seen(c, start=1.0, clock=ClockMap(-4.0))
    }  # fmt: skip
    sync, relations = relate_poses(poses, reference="b")
    assert sync.method == "motion"
    assert sync.loop_s < 0.01
    assert [r.name for r in relations] == ["a and b", "a and c", "b and c"]
    back = inverse(ClockMap(1.0))
    assert sync.clocks["c"].offset_s == pytest.approx(float(back.to_session(-4.0)), abs=0.006)
    with pytest.raises(SyncError, match="c and a, b cannot be related by motion"):
        relate_poses({**poses, "c": seen(c, seed=9)})


def test_the_benchmark_of_motion_holds_on_made_clips():
    """Virtual phones with a detector's errors, on bodies whose every joint moves in its own way."""
    bench = benchmark()
    clips = []
    for seed in range(3):
        joints = moving_body(480, np.random.default_rng(seed), rate=60.0)
        joints = np.stack([joints[..., 0], joints[..., 2], 1.0 - joints[..., 1]], axis=-1)  # z up
        clips.append(bench.Motion(f"made {seed}", joints.astype(np.float32), 60.0, "made"))
    noise = bench.NoiseModel()
    for row in bench.same_clip(clips, 11, noise):
        assert row.accepted
        assert row.error_s < 1 / 60
        for after in row.refinements:
            assert abs(after.error_s) < max(abs(after.sound_s) + 0.002, 0.008)
    assert bench.other_clips(clips, 11, noise, alike=False, count=4) == (0, 4)


@pytest.mark.skipif(not MOCAP.exists(), reason="the prepared motion capture is not here")
def test_the_benchmark_of_motion_holds_on_a_few_clips():
    bench = benchmark()
    clips = bench.read_motions(MOCAP / "target_test_same")
    clips = [next(clip for clip in clips if clip.kind == kind) for kind in ("golf_swing", "baseball", "basketball")]
    noise = bench.NoiseModel()
    rows = bench.same_clip([clip for clip in clips if clip.seconds >= 4], 11, noise)
    assert len(rows) == 3
    for row in rows:
        assert row.error_s < 1 / 60
        for after in row.refinements:
            assert abs(after.error_s) <= abs(after.sound_s) + 0.0021
    assert any(abs(r.sound_s) > 0.01 and abs(r.error_s) < 0.004 for row in rows for r in row.refinements)
    assert sum(row.accepted for row in rows) >= 2
    wrong, count = bench.other_clips(clips, 11, noise, alike=False, count=4)
    assert (wrong, count) == (0, 4)


@pytest.mark.parametrize(("joints", "seconds"), [(5, 0.0), (6, 7.9)])
def test_frames_count_that_show_six_joints(joints, seconds):
    whole = seen(two_cameras()[0]).to(H36M17)
    score = np.where(np.arange(17) < joints, whole.score, 0.0)
    few = replace(whole, xy=np.where(score[..., None] > 0, whole.xy, np.nan), score=score)
    assert trajectories(few).seconds == pytest.approx(seconds, abs=0.1)


def test_views_may_share_a_tenth_less_than_is_asked_for():
    """The smoothed tracks are a little shorter than the videos."""
    a, b = two_cameras()
    found = match_poses(seen(a), seen(b, start=2.3), SyncConfig(min_overlap_s=6.0))
    assert found.refusal == ""
    assert error_s(found, ClockMap()) < 0.01
