from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bodies import moving_body
from scipy.spatial.transform import Rotation

from twoview.errors import FormatError, SyncError
from twoview.evaluation.scoring import compare_views, evaluate, match, summarize
from twoview.poses import Poses3D
from twoview.skeleton import H36M17
from twoview.timeline import ClockMap, Sync

RATE = 30.0


def truth(frames: int = 300, seed: int = 0) -> Poses3D:
    body = moving_body(frames, np.random.default_rng(seed)) + np.array([0, 0, 4.0])
    return Poses3D(body, np.arange(frames) / RATE, H36M17, "camera", "m", "a")


def changed(poses: Poses3D, xyz: np.ndarray, **more) -> Poses3D:
    return replace(poses, xyz=xyz, origin="root", **more)


def noisy(poses: Poses3D, meters: float, seed: int = 1) -> Poses3D:
    shift = np.random.default_rng(seed).normal(0, meters, poses.xyz.shape)
    shift[:, 0] = 0
    return changed(poses, poses.xyz - poses.xyz[:, :1] + shift)


def test_a_perfect_prediction_has_no_error():
    report = evaluate(truth(), truth())
    for name in ("MPJPE", "PA-MPJPE", "N-MPJPE", "velocity error (MPJVE)", "acceleration error"):
        assert report.value(name) == pytest.approx(0, abs=1e-3)
    assert report.value("3D PCK at 150 mm") == 100
    assert report.value("joints compared") == 100


def test_the_mpjpe_is_that_of_root_relative_joints_in_millimeters():
    true = truth()
    xyz = true.xyz - true.xyz[:, :1]
    xyz = xyz + 0.0
    xyz[:, H36M17.index("left_wrist"), 0] += 0.17
    report = evaluate(changed(true, xyz), true)
    assert report.value("MPJPE") == pytest.approx(10, abs=1e-3)  # 170 mm in one joint of 17
    assert report.value("MPJPE", "left_wrist") == pytest.approx(170, abs=1e-2)
    assert report.value("MPJPE", "right_wrist") == pytest.approx(0, abs=1e-3)
    assert report.value("3D PCK at 150 mm") == pytest.approx(100 * 16 / 17)
    assert report.value("velocity error (MPJVE)") == pytest.approx(0, abs=0.05)


def test_scale_and_turn_are_forgiven_by_the_measures_that_say_so():
    true = truth()
    turned = (true.xyz - true.xyz[:, :1]) @ Rotation.from_euler("y", 30, degrees=True).as_matrix().T * 1.3
    report = evaluate(changed(true, turned), true)
    assert report.value("PA-MPJPE") == pytest.approx(0, abs=1e-2)
    assert report.value("N-MPJPE") > 50
    assert evaluate(changed(true, (true.xyz - true.xyz[:, :1]) * 1.3), true).value("N-MPJPE") < 1e-2


def test_times_are_matched_in_seconds():
    true = truth()
    half = Poses3D(true.xyz[::2], true.time[::2], unit="m", origin="camera")
    late = replace(half, time=half.time + 0.4)
    assert evaluate(half, true).value("MPJPE") < 12  # interpolated
    assert evaluate(late, true).value("MPJPE") > 30
    assert match(replace(half, time=half.time + 4.0), true).time[0] == pytest.approx(4.0)
    with pytest.raises(FormatError, match=r"share no moment: 100\.00 to 109\.93 s and 0\.00 to 9\.97 s"):
        evaluate(replace(half, time=half.time + 100), true)


def test_screen_units_have_no_millimeters_until_a_scale_is_named():
    true = truth()
    screen = changed(true, (true.xyz - true.xyz[:, :1]) * 0.4, unit="screen")
    report = evaluate(screen, true)
    assert "MPJPE" not in [m.name for m in report.rows]
    assert "--height" in report.notes[0]
    assert report.value("PA-MPJPE") == pytest.approx(0, abs=1e-2)
    for scale in ("fit", "bones", 2.5):
        assert evaluate(screen, true, scale=scale).value("MPJPE") == pytest.approx(0, abs=1e-2)
    assert evaluate(screen, true, scale=2.0).value("MPJPE") > 50
    with pytest.raises(ValueError, match="expected a scale among fit, bones"):
        evaluate(screen, true, scale="guess")
    with pytest.raises(FormatError, match="truth in meters"):
        evaluate(true, screen)


def test_unknown_joints_are_left_out():
    true = truth()
    spoiled = noisy(true, 0.02)
    xyz = spoiled.xyz.copy()
    xyz[:, H36M17.index("head")] = np.nan
    report, whole = evaluate(changed(true, xyz), true), evaluate(spoiled, true)
    assert report.value("joints compared") == pytest.approx(100 * 16 / 17)
    assert report.value("MPJPE", "left_knee") == pytest.approx(whole.value("MPJPE", "left_knee"), rel=1e-6)
    assert np.isnan(report.value("MPJPE", "head"))
    assert np.isfinite(report.value("PA-MPJPE"))


def test_a_frame_counts_from_four_known_joints_on():
    true = truth(30)
    xyz = noisy(true, 0.02).xyz.copy()
    xyz[0, 4:], xyz[29, 3:] = np.nan, np.nan
    found = match(changed(true, xyz), true)
    assert found.time.tolist() == pytest.approx(true.time[:29].tolist())
    assert found.known.sum(dim=1).tolist() == [4] + [17] * 28


def test_velocity_and_acceleration_errors_are_those_of_a_joint_that_speeds_up():
    """One wrist of 17 joints is off by t^2 m: its velocity by 2 t, its acceleration by 2 m/s^2."""
    true = truth(91)
    xyz = (true.xyz - true.xyz[:, :1]).astype(np.float64)
    xyz[:, H36M17.index("left_wrist"), 1] += true.time**2
    report = evaluate(changed(true, xyz), true)
    assert report.value("velocity error (MPJVE)") == pytest.approx(1000 * 3.0 / 17, rel=1e-3)  # mean of t is 1.5 s
    assert report.value("acceleration error") == pytest.approx(2 / 17, rel=2e-2)  # at float32
    holed = xyz.copy()
    holed[40:45, H36M17.index("left_wrist")] = np.nan  # movement from or to there is unknown
    again = evaluate(changed(true, holed), true)
    assert again.value("acceleration error") == pytest.approx(2 * 82 / (89 * 17 - 7), rel=2e-2)


def test_the_measures_that_need_no_truth_are_those_of_the_body():
    true = truth(60)
    bare = true.xyz - true.xyz[:, :1]
    breathing = bare * (1 + 0.1 * (-1.0) ** np.arange(60))[:, None, None]
    for report in (evaluate(changed(true, breathing)), evaluate(changed(true, breathing), true)):
        assert report.value("bone length spread") == pytest.approx(10, rel=1e-3)
    assert evaluate(true).value("left-right difference of bones") == pytest.approx(0, abs=1e-3)
    longer = bare.copy()
    wrist, elbow = H36M17.index("left_wrist"), H36M17.index("left_elbow")
    longer[:, wrist] += 0.5 * (bare[:, wrist] - bare[:, elbow])  # one of six pairs of bones: 1.5 against 1
    assert evaluate(changed(true, longer)).value("left-right difference of bones") == pytest.approx(
        100 * 0.4 / 6, rel=1e-3
    )
    shaken = np.repeat(bare[:1], 60, axis=0)
    shaken[:, 1:, 0] += (0.01 * (-1.0) ** np.arange(60))[:, None]
    assert evaluate(changed(true, shaken)).value("jitter") == pytest.approx(0.04 * RATE**2, rel=1e-3)  # m/s^2
    size = np.sqrt((shaken**2).sum(axis=-1).mean())
    in_sizes = evaluate(changed(true, shaken, unit="screen")).value("jitter")
    assert in_sizes == pytest.approx(0.04 * RATE**2 / size, rel=1e-3)


def test_both_ways_of_averaging():
    long, short = truth(300), truth(100, seed=5)
    clips = [match(noisy(long, 0.02), long, activity="golf"), match(noisy(short, 0.06), short, activity="jump")]
    report = summarize(clips)
    golf, jump = report.value("MPJPE", "golf"), report.value("MPJPE", "jump")
    assert report.value("MPJPE") == pytest.approx((300 * golf + 100 * jump) / 400)
    assert report.value("MPJPE, mean of activities") == pytest.approx((golf + jump) / 2)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(60):
        true = truth(240, seed)
        level = np.repeat(np.random.default_rng(seed).normal(0.05, 0.02, 8), 30)  # neighboring frames err alike
        xyz = true.xyz - true.xyz[:, :1]
        xyz = xyz + level[:, None, None] * np.where(np.arange(17) > 0, 1, 0)[:, None] * [1, 0, 0]
        row = next(m for m in evaluate(changed(true, xyz), true).rows if m.name == "MPJPE")
        held += row.low <= 1000 * 0.05 * 16 / 17 <= row.high
    assert 48 <= held <= 60  # 95 % nominal, fewer with eight blocks


def test_too_little_to_tell_has_no_interval():
    assert np.isnan(evaluate(noisy(truth(60), 0.02), truth(60)).rows[0].low)


def test_without_truth_bones_and_jitter_speak():
    calm, shaky = evaluate(truth()), evaluate(noisy(truth(), 0.03))
    assert calm.value("bone length spread") == pytest.approx(0, abs=1e-3)
    assert shaky.value("bone length spread") > 3
    assert shaky.value("jitter") > 5 * calm.value("jitter")
    assert "no truth" in calm.notes[0]


def test_views_that_agree_and_views_that_do_not():
    true = truth()
    quarter = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    other = changed(true, (true.xyz - true.xyz[:, :1]) @ quarter.T * 0.7)
    sync = Sync("a", {"a": ClockMap(), "b": ClockMap(-0.5)})
    later = replace(other, time=other.time + 0.5)
    report = compare_views({"a": true, "b": later}, sync)
    assert report.value("disagreement, one fit per clip", "a-b") == pytest.approx(0, abs=1e-3)
    assert report.value("angle between the views", "a-b") == pytest.approx(90, abs=1e-3)
    off = other.xyz.copy()
    off[:, H36M17.index("left_wrist")] += [0.0, 0.3, 0.0]
    third = replace(other, xyz=off)
    three = compare_views({"a": true, "b": later, "c": third}, Sync("a", {**sync.clocks, "c": ClockMap()}))
    assert three.value("disagreement, one fit per clip", "a-b") == pytest.approx(0, abs=1e-3)
    assert 2 < three.value("disagreement, one fit per frame", "a-c") < 20
    worse = compare_views({"a": true, "b": other}, sync)
    assert worse.value("disagreement, one fit per clip", "a-b") > 5
    with pytest.raises(SyncError, match="needs two views"):
        compare_views({"a": true}, sync)


def test_a_report_is_json():
    report = evaluate(noisy(truth(60), 0.02), truth(60))
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["rows"][0]["name"] == "MPJPE"
    assert content["rows"][0]["low"] is None
    with pytest.raises(KeyError, match="no 'IoU' in this report; it has MPJPE"):
        report.value("IoU")


def test_folders_are_judged_by_activity(tmp_path):
    from twoview.storage import records
    from twoview.workflow.evaluation import evaluate_files, write_evaluation

    for activity, seed, meters in (("golf", 0, 0.02), ("jump", 1, 0.06)):
        true = truth(60, seed)
        records.save(tmp_path / "truth" / activity / "a.npz", true)
        records.save(tmp_path / "found" / activity / "a.npz", noisy(true, meters))
    report = evaluate_files(tmp_path / "found", tmp_path / "truth")
    assert report.value("MPJPE", "jump") > 2 * report.value("MPJPE", "golf")
    write_evaluation(tmp_path / "page.html", report, title="All")
    page = (tmp_path / "page.html").read_text()
    assert "By activity" in page
    assert "golf" in page
    (tmp_path / "truth" / "golf" / "a.npz").unlink()
    with pytest.raises(FormatError, match="no truth for golf"):
        evaluate_files(tmp_path / "found", tmp_path / "truth")
    with pytest.raises(FormatError, match="no folder of truth"):
        evaluate_files(tmp_path / "found")


def test_poses_in_other_axes_than_the_truth_are_refused():
    truth = Poses3D(np.ones((4, 17, 3)), np.arange(4) / 30, unit="m")
    with pytest.raises(FormatError, match="y-up axes and their truth is in camera axes"):
        match(replace(truth, origin="world", axes="y-up"), truth)
