"""Angles of figures posed with known ones, in any axes and units; signs, sides, velocities and gaps."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from places import ROOT
from scenes import swinging_person
from scipy.spatial.transform import Rotation

from twoview.biomechanics.angles import ANGLES, SIDES, Angles, angles
from twoview.poses import Poses3D
from twoview.skeleton import COCO17, H36M17, HALPE26

UP = (0.0, -1.0, 0.0)


def drawing():
    spec = importlib.util.spec_from_file_location("make_angles", ROOT / "docs" / "make_angles.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAWN = drawing()
posed, poses_of = DRAWN.posed, DRAWN.poses_of
FREE = [f"{side}_{name}" for name, about in ANGLES.items() if about.sided for side in SIDES] + [
    name for name, about in ANGLES.items() if not about.sided and not about.upright
]
POSABLE = [name for name in FREE if not name.endswith("elevation")]


def measured(up=None, **degrees: float) -> dict[str, float]:
    return {name: float(v[0]) for name, v in angles(poses_of(posed(**degrees)), up=up).degrees.items()}


@pytest.mark.parametrize("name", POSABLE)
@pytest.mark.parametrize("value", [-25.0, 0.0, 17.0, 40.0])
def test_an_angle_is_measured_with_its_sign_and_alone(name, value):
    if value < 0 and name.endswith(("knee_flexion", "elbow_flexion")):
        pytest.skip("joints that bend one way")
    found = measured(**{name: value})
    assert found[name] == pytest.approx(value, abs=1e-3)
    arm = name.startswith(("right_shoulder", "left_shoulder"))
    own = {name, f"{name.split('_')[0]}_shoulder_elevation"} if arm else {name}
    others = {key: angle for key, angle in found.items() if key not in own}
    assert max(map(abs, others.values())) < 1e-3, others


def test_all_angles_at_once_are_all_found():
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted = {name: rng.uniform(0, 60) if "knee" in name or "elbow" in name else rng.uniform(-60, 60)
                  for name in POSABLE}  # fmt: skip
        found = measured(turn=rng.uniform(-180, 180), lean=rng.uniform(-40, 40), **wanted)
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-3)


def test_gravity_is_not_needed_between_parts_of_the_body_and_no_axes_matter():
    body = posed(right_hip_flexion=30, left_knee_flexion=50, x_factor=25, trunk_side_bend=-10, left_shoulder_flexion=80)
    poses = poses_of(body)
    first = angles(poses).degrees
    assert set(first) == set(FREE)
    turned = Rotation.random(random_state=0).apply(poses.xyz[0]) * 0.37 + [1.0, -2.0, 3.0]
    second = angles(replace(poses, xyz=turned[None], origin="root", unit="screen")).degrees
    assert {n: v[0] for n, v in second.items()} == pytest.approx({n: v[0] for n, v in first.items()}, abs=1e-3)


def test_a_mirrored_body_swaps_its_sides_and_turns_the_other_way():
    body = posed(right_hip_flexion=30, right_hip_abduction=20, left_knee_flexion=50, x_factor=25, trunk_side_bend=-10,
                 left_elbow_flexion=70, left_shoulder_abduction=35, right_ankle_dorsiflexion=12)  # fmt: skip
    poses = poses_of(body)
    mirrored = replace(poses, xyz=(poses.xyz * [-1, 1, 1])[:, list(HALPE26.flip_order)])
    one, two = (angles(p).degrees for p in (poses, mirrored))
    for name, about in ANGLES.items():
        if about.sided:
            assert two[f"left_{name}"][0] == pytest.approx(one[f"right_{name}"][0], abs=1e-3), name
        elif not about.upright:
            assert two[name][0] == pytest.approx(-one[name][0], abs=1e-3), name


def test_an_arm_overhead_is_180_and_goes_on_without_a_jump():
    flexions = np.arange(0, 230, 5.0)
    found = angles(poses_of(*(posed(right_shoulder_flexion=f) for f in flexions))).degrees
    assert found["right_shoulder_flexion"] == pytest.approx(flexions, abs=1e-3)
    assert found["right_shoulder_elevation"][36] == pytest.approx(180, abs=0.1)


def test_a_limb_along_its_axis_has_no_flexion():
    found = measured(right_shoulder_flexion=30, right_shoulder_abduction=85)
    assert np.isnan(found["right_shoulder_flexion"])
    assert found["right_shoulder_abduction"] == pytest.approx(85, abs=1e-3)


def test_angles_against_gravity_need_to_know_where_up_is():
    assert not set(measured()) & {name for name, about in ANGLES.items() if about.upright}
    found = measured(UP, lean=30, turn=180)
    assert (found["trunk_lean"], found["pelvis_turn"]) == pytest.approx((30, 0), abs=1e-3)
    assert measured(UP, trunk_side_bend=20)["trunk_side_lean"] == pytest.approx(20, abs=1e-3)
    assert measured(UP, side_lean=-15)["pelvis_list"] == pytest.approx(15, abs=1e-3)
    turned = measured(UP, turn=180 + 40, x_factor=-30)
    assert turned["pelvis_turn"] == pytest.approx(40, abs=1e-3)
    assert turned["shoulder_turn"] == pytest.approx(10, abs=1e-3)


def test_up_may_be_any_direction():
    body = poses_of(posed(lean=30, turn=180))
    tilt = Rotation.from_euler("x", 20, degrees=True)
    tilted = replace(body, xyz=tilt.apply(body.xyz[0])[None])
    assert angles(tilted, up=UP).degrees["trunk_lean"][0] == pytest.approx(50, abs=0.01)
    assert angles(tilted, up=7 * tilt.apply(UP)).degrees["trunk_lean"][0] == pytest.approx(30, abs=0.01)
    for bad in ((0, 0, 0), (0, 1), (0, np.nan, 1)):
        with pytest.raises(ValueError, match="direction"):
            angles(body, up=bad)


def test_a_turn_goes_on_beyond_180():
    turns = np.arange(0, 720, 20.0)
    found = angles(poses_of(*(posed(turn=180 + turn) for turn in turns)), up=UP)
    assert found.degrees["pelvis_turn"] == pytest.approx(turns, abs=1e-3)
    assert found.motion("pelvis_turn").range == pytest.approx(700, abs=1e-2)


def test_ranges_and_peak_velocities():
    time = np.arange(91) / 30
    bend = 40 + 30 * np.sin(2 * np.pi * time)
    poses = replace(poses_of(*(posed(right_knee_flexion=b) for b in bend)), time=5 + time)
    motion = angles(poses).motion("right_knee_flexion")
    assert (motion.low, motion.high, motion.range) == pytest.approx((10, 70, 60), abs=0.5)
    assert abs(motion.speed) == pytest.approx(30 * 2 * np.pi, rel=0.02)
    assert (motion.speed_at - 5) % 0.5 == pytest.approx(0, abs=0.035)
    velocity = angles(poses).velocity("right_knee_flexion")
    assert velocity[1:-1] == pytest.approx(60 * np.pi * np.cos(2 * np.pi * time[1:-1]), abs=4)
    assert np.isnan(velocity[[0, -1]]).all()


def test_a_velocity_takes_the_short_way_round():
    found = Angles(np.arange(3.0), {"a": np.array([235.0, 239.0, -119.0])})
    assert found.velocity("a")[1] == pytest.approx(3.0)


def test_a_gap_is_unknown_in_the_angles_that_need_it_only():
    poses = poses_of(*(posed(right_knee_flexion=30) for _ in range(5)))
    xyz = poses.xyz.copy()
    xyz[2, HALPE26.index("right_ankle")] = np.nan
    found = angles(replace(poses, xyz=xyz), up=UP)
    assert np.isnan(found.degrees["right_knee_flexion"]).tolist() == [False, False, True, False, False]
    assert np.isnan(found.velocity("right_knee_flexion")).tolist() == [True, True, True, True, True]
    assert np.isfinite(found.degrees["left_knee_flexion"]).all()
    assert np.isfinite(found.degrees["pelvis_turn"]).all()
    none = angles(replace(poses, xyz=np.full_like(xyz, np.nan)))
    with pytest.raises(ValueError, match="no frame"):
        none.motion("x_factor")


def test_joints_that_fall_together_have_no_direction():
    poses = poses_of(posed())
    xyz = poses.xyz.copy()
    xyz[0, HALPE26.index("right_knee")] = xyz[0, HALPE26.index("right_ankle")]
    found = angles(replace(poses, xyz=xyz)).degrees
    assert np.isnan(found["right_knee_flexion"][0])


@pytest.mark.parametrize("skeleton", [H36M17, COCO17])
def test_a_skeleton_without_feet_has_all_but_the_ankles(skeleton):
    xyz = swinging_person(3).xyz if skeleton == H36M17 else np.random.default_rng(0).normal(size=(3, 17, 3))
    found = angles(Poses3D(xyz, np.arange(3) / 30, skeleton))
    assert set(FREE) - set(found.degrees) == {"left_ankle_dorsiflexion", "right_ankle_dorsiflexion"}


def test_no_frames_have_no_angles():
    assert len(angles(swinging_person(3).between(9, 10), up=UP)) == 0


def test_the_page_and_its_pictures_are_those_of_the_code():
    assert (ROOT / "docs/reference/angles.md").read_text() == DRAWN.page(), "run: python docs/make_angles.py"
    assert set(DRAWN.SHOWN) == set(ANGLES)
    for name, (value, _) in DRAWN.SHOWN.items():
        key = f"right_{name}" if ANGLES[name].sided else name
        found = angles(poses_of(DRAWN.figure_of(name, value)), up=UP).degrees[key][0]
        assert found == pytest.approx(value, abs=1e-3), name
