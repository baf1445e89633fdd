import json

import numpy as np
import pytest
from motion_files import UNIT, write_acclaim, write_bvh
from places import SHARED

from twoview.datasets import motion_capture
from twoview.datasets.motion import Motion, read_motions, write_motions
from twoview.datasets.motion_capture import rotation, z_up
from twoview.errors import FormatError
from twoview.skeleton import H36M17

SHARED = SHARED / "data" / "mocap" / "public"


def test_two_readers_agree_once_the_two_dropped_bones_are_mended(tmp_path):
    take, asf = write_acclaim(tmp_path)
    converted = write_bvh(tmp_path)
    one = motion_capture.read_amc(take, asf, rate=120.0)
    two = motion_capture.read_bvh(converted, unit_m=UNIT, cmu=True)
    broken = motion_capture.read_bvh(converted, unit_m=UNIT)
    assert one.joints == pytest.approx(two.joints, abs=5e-6)
    assert two.rate == pytest.approx(120, abs=0.01)
    assert np.abs(one.joints - broken.joints).max() > 0.08


def test_bones_have_the_lengths_of_the_skeleton_file(tmp_path):
    motion = motion_capture.read_amc(*write_acclaim(tmp_path), rate=120.0)
    knee, ankle = (motion.joints[:, H36M17.index(name)] for name in ("left_knee", "left_ankle"))
    assert np.linalg.norm(knee - ankle, axis=-1) == pytest.approx(7.5 * UNIT, abs=1e-5)


def test_a_resting_body_stands_upright_with_left_on_its_left(tmp_path):
    _, asf = write_acclaim(tmp_path)
    still = tmp_path / "still.amc"
    still.write_text(":DEGREES\n1\nroot 0 18 0 0 0 0\n")
    joints = motion_capture.read_amc(still, asf, rate=60.0).joints[0]
    assert joints[H36M17.index("head"), 2] > joints[H36M17.index("pelvis"), 2] > joints[H36M17.index("left_ankle"), 2]
    left = joints[H36M17.index("left_hip")] - joints[H36M17.index("right_hip")]
    up, forward = np.array([0, 0, 1.0]), z_up(np.array([0, 0, 1.0]))
    assert np.cross(up, forward) @ left > 0


def test_an_axis_turns_a_bones_own_angles(tmp_path):
    """The angles of a bone are about its own axes: with the axis turned by 90 degrees about z, x acts as y."""
    take, asf = write_acclaim(tmp_path)
    text = asf.read_text().replace(
        "name lfemur\n    direction 0 -1 0\n    length 7.0\n    axis 0 0 0",
        "name lfemur\n    direction 0 -1 0\n    length 7.0\n    axis 0 0 90",
    )
    asf.write_text(text)
    take.write_text(":DEGREES\n1\nroot 0 0 0 0 0 0\nlfemur 40 0 0\nltibia 0 0 0\n")
    joints = motion_capture.read_amc(take, asf, rate=60.0).joints[0]
    thigh = joints[H36M17.index("left_knee")] - joints[H36M17.index("left_hip")]
    expected = z_up(rotation("y", np.array([40.0])) @ np.array([0, -1.0, 0])) * 7.0 * UNIT
    assert thigh == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("Frames: 4", "Frames: 5", "expected"), ("MOTION", "", "truncated"), ("LeftForeArm", "LeftElbow", "LeftForeArm")],
)
def test_a_damaged_or_foreign_bvh_says_so(tmp_path, old, new, message):
    path = write_bvh(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        motion_capture.read_bvh(path, unit_m=UNIT, cmu=False)


def test_an_amc_with_another_subjects_skeleton_says_so(tmp_path):
    take, asf = write_acclaim(tmp_path)
    take.write_text(take.read_text().replace("lfemur", "ltail"))
    with pytest.raises(FormatError, match="ltail"):
        motion_capture.read_amc(take, asf, rate=120.0)
    take.write_text(take.read_text()[:300])
    with pytest.raises(FormatError):
        motion_capture.read_amc(take, asf, rate=120.0)
    with pytest.raises(FormatError, match="no such file"):
        motion_capture.read_amc(tmp_path / "none.amc", asf, rate=120.0)


def test_prepared_files_are_read_in_meters(tmp_path):
    joints = np.arange(2 * 17 * 3, dtype=np.int16).reshape(2, 17, 3)
    np.savez(tmp_path / "set.npz", a=joints)
    (tmp_path / "set.json").write_text(json.dumps([{"key": "a", "cls": "walk", "subject": "s1"}]))
    (motion,) = read_motions(tmp_path / "set.npz")
    assert motion.joints == pytest.approx(joints * 0.0005)
    assert (motion.kind, motion.subject, motion.rate, motion.seconds) == ("walk", "s1", 60.0, 2 / 60)
    (tmp_path / "set.npz").write_bytes(b"PK")
    with pytest.raises(FormatError, match="cannot be read"):
        read_motions(tmp_path / "set.npz")


def test_a_motion_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="17, 3"):
        Motion("m", np.zeros((4, 15, 3), np.float32), 60.0)


@pytest.mark.skipif(not SHARED.exists(), reason="the motion capture is not here")
def test_the_real_files_hold_people():
    motions = read_motions(SHARED / "source_val")
    assert len(motions) == 26
    head, ankle = H36M17.index("head"), H36M17.index("left_ankle")
    tall = np.concatenate([m.joints[:, head, 2] - m.joints[:, ankle, 2] for m in motions])
    assert 1.3 < np.median(tall) < 1.8


def test_written_motion_is_read_back_to_half_a_millimeter(tmp_path):
    random = np.random.default_rng(3)
    swing = random.normal(size=(90, 17, 3)).astype(np.float32).cumsum(axis=0) * 0.01
    walk = Motion("walk", swing, 60.0, "walk", "me")
    write_motions(tmp_path / "mine.npz", [walk, Motion("fast", swing, 120.0), Motion("one", swing[:1], 30.0)])
    same, fast, one = read_motions(tmp_path / "mine")
    assert (same.name, same.kind, same.subject, same.rate) == ("walk", "walk", "me", 60.0)
    assert np.abs(same.joints - swing).max() < 0.00026
    assert np.abs(fast.joints - swing[::2]).max() < 0.00026
    assert len(one.joints) == 1


def test_motion_that_does_not_fit_the_file_is_refused(tmp_path):
    still = np.zeros((4, 17, 3), np.float32)
    for wrong, message in (
        ([Motion("a", still, 60.0), Motion("a", still, 60.0)], "two motions"),
        ([Motion("far", still + 20, 60.0)], "20 m from the origin"),
        ([Motion("hole", still * np.nan, 60.0)], "nan m from the origin"),
    ):
        with pytest.raises(FormatError, match=message):
            write_motions(tmp_path / "mine.npz", wrong)
    assert not list(tmp_path.iterdir())
