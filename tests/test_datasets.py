import json
from pathlib import Path

import numpy as np
import pytest

from twoview.datasets import Motion, amc, bvh, mocap
from twoview.datasets.kinematics import rotation, z_up
from twoview.errors import FormatError
from twoview.skeleton import H36M17

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "mocap" / "public"
UNIT = 0.0254 / 0.45

# One chain of bones (name, parent, direction, length), as in CMU's skeletons, y up, facing z.
BONES = [
    ("lhipjoint", "root", (0.6, -0.8, 0), 2.0), ("lfemur", "lhipjoint", (0, -1, 0), 7.0),
    ("ltibia", "lfemur", (0, -1, 0), 7.5), ("rhipjoint", "root", (-0.6, -0.8, 0), 2.0),
    ("rfemur", "rhipjoint", (0, -1, 0), 7.0), ("rtibia", "rfemur", (0, -1, 0), 7.5),
    ("lowerback", "root", (0, 1, 0), 2.0), ("upperback", "lowerback", (0, 1, 0), 2.1),
    ("thorax", "upperback", (0, 1, 0), 2.1), ("lowerneck", "thorax", (0, 1, 0), 1.6),
    ("upperneck", "lowerneck", (0, 1, 0), 1.6), ("head", "upperneck", (0, 1, 0), 1.7),
    ("lclavicle", "thorax", (1, 0, 0), 3.0), ("lhumerus", "lclavicle", (1, 0, 0), 5.0),
    ("lradius", "lhumerus", (1, 0, 0), 3.2), ("lwrist", "lradius", (1, 0, 0), 1.6),
    ("rclavicle", "thorax", (-1, 0, 0), 3.0), ("rhumerus", "rclavicle", (-1, 0, 0), 5.0),
    ("rradius", "rhumerus", (-1, 0, 0), 3.2), ("rwrist", "rradius", (-1, 0, 0), 1.6),
]  # fmt: skip
# What each BVH joint moves: the bone that begins there. The conversion drops thorax and wrist bones.
IN_BVH = {
    "LeftUpLeg": "lfemur", "LeftLeg": "ltibia", "RightUpLeg": "rfemur", "RightLeg": "rtibia", "Spine": "upperback",
    "LeftArm": "lhumerus", "LeftForeArm": "lradius", "RightArm": "rhumerus", "RightForeArm": "rradius",
}  # fmt: skip


def angles(frames: int = 4) -> dict[str, np.ndarray]:
    """Degrees (T, 3) about x, y, z of the bones that both files can move, and the root's place and turn."""
    rng = np.random.default_rng(0)
    out = {bone: rng.uniform(-60, 60, (frames, 3)).round(3) for bone in IN_BVH.values()}
    out["root"] = np.concatenate([rng.uniform(-5, 5, (frames, 3)), rng.uniform(-180, 180, (frames, 3))], axis=1).round(
        3
    )
    return out


def write_acclaim(folder: Path) -> tuple[Path, Path]:
    lines = [":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root", "  order TX TY TZ RX RY RZ", ":bonedata"]
    for index, (name, _, direction, length) in enumerate(BONES):
        lines += [
            "  begin",
            f"    id {index + 1}",
            f"    name {name}",
            f"    direction {direction[0]} {direction[1]} {direction[2]}",
        ]
        lines += [f"    length {length}", "    axis 0 0 0 XYZ", "    dof rx ry rz", "  end"]
    lines += [":hierarchy", "  begin"] + [f"    {parent} {name}" for name, parent, *_ in BONES] + ["  end"]
    asf = folder / "1.asf"
    asf.write_text("\n".join(lines))
    found = angles()
    take = [":FULLY-SPECIFIED", ":DEGREES"]
    for frame in range(4):
        take.append(str(frame + 1))
        take += [f"{bone} {' '.join(map(str, values[frame]))}" for bone, values in found.items()]
    amc_path = folder / "1_01.amc"
    amc_path.write_text("\n".join(take))
    return amc_path, asf


def write_bvh(folder: Path) -> Path:
    """The same take as the conversions have it: no thorax bone, the hand at the end of the radius."""
    bone = {name: np.array(direction) * length for name, _, direction, length in BONES}
    zero = np.zeros(3)
    arm = lambda s, w: (f"{w}Shoulder", zero, [(f"{w}Arm", bone[f"{s}clavicle"], [(f"{w}ForeArm", bone[f"{s}humerus"], [(f"{w}Hand", bone[f"{s}radius"], [])])])])  # fmt: skip  # noqa: E501, E731
    leg = lambda s, w: (f"{w}UpLeg", bone[f"{s}hipjoint"], [(f"{w}Leg", bone[f"{s}femur"], [(f"{w}Foot", bone[f"{s}tibia"], [])])])  # fmt: skip  # noqa: E501, E731
    head = ("Neck", zero, [("Neck1", bone["lowerneck"], [("Head", bone["upperneck"], [])])])
    chest = ("Spine1", bone["upperback"], [head, arm("l", "Left"), arm("r", "Right")])
    tree = ("Hips", zero, [leg("l", "Left"), leg("r", "Right"), ("Spine", bone["lowerback"], [chest])])
    found, order, lines = angles(), [], ["HIERARCHY"]

    def put(node, depth):
        name, offset, children = node
        order.append(name)
        lines.append(f"{'JOINT' if depth else 'ROOT'} {name} {{ OFFSET {offset[0]} {offset[1]} {offset[2]}")
        place = "Xposition Yposition Zposition " if not depth else ""
        lines.append(f"CHANNELS {3 + 3 * (not depth)} {place}Zrotation Yrotation Xrotation")
        for child in children:
            put(child, depth + 1)
        if not children:
            end = bone["head"] if name == "Head" else np.array([0, -1.0, 0])
            lines.append(f"End Site {{ OFFSET {end[0]} {end[1]} {end[2]} }}")
        lines.append("}")

    put(tree, 0)
    lines += ["MOTION", "Frames: 4", "Frame Time: 0.00833333"]
    for frame in range(4):
        row = list(found["root"][frame, :3])
        for name in order:
            turn = (
                found["root"][frame, 3:] if name == "Hips" else found.get(IN_BVH.get(name, ""), np.zeros((4, 3)))[frame]
            )
            row += list(turn[::-1])
        lines.append(" ".join(map(str, row)))
    path = folder / "1_01.bvh"
    path.write_text("\n".join(lines))
    return path


def test_two_readers_agree_once_the_two_dropped_bones_are_mended(tmp_path):
    take, asf = write_acclaim(tmp_path)
    converted = write_bvh(tmp_path)
    one = amc.read(take, asf, rate=120.0)
    two = bvh.read(converted, unit_m=UNIT, cmu=True)
    broken = bvh.read(converted, unit_m=UNIT)
    assert one.joints == pytest.approx(two.joints, abs=5e-6)
    assert two.rate == pytest.approx(120, abs=0.01)
    assert np.abs(one.joints - broken.joints).max() > 0.08


def test_bones_have_the_lengths_of_the_skeleton_file(tmp_path):
    motion = amc.read(*write_acclaim(tmp_path), rate=120.0)
    knee, ankle = (motion.joints[:, H36M17.index(name)] for name in ("left_knee", "left_ankle"))
    assert np.linalg.norm(knee - ankle, axis=-1) == pytest.approx(7.5 * UNIT, abs=1e-5)


def test_a_resting_body_stands_upright_with_left_on_its_left(tmp_path):
    _, asf = write_acclaim(tmp_path)
    still = tmp_path / "still.amc"
    still.write_text(":DEGREES\n1\nroot 0 18 0 0 0 0\n")
    joints = amc.read(still, asf, rate=60.0).joints[0]
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
    joints = amc.read(take, asf, rate=60.0).joints[0]
    thigh = joints[H36M17.index("left_knee")] - joints[H36M17.index("left_hip")]
    expected = z_up(rotation("y", np.array([40.0])) @ np.array([0, -1.0, 0])) * 7.0 * UNIT
    assert thigh == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("Frames: 4", "Frames: 5", "announced"), ("MOTION", "", "truncated"), ("LeftForeArm", "LeftElbow", "LeftForeArm")],
)
def test_a_damaged_or_foreign_bvh_says_so(tmp_path, old, new, message):
    path = write_bvh(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        bvh.read(path, unit_m=UNIT, cmu=False)


def test_an_amc_with_another_subjects_skeleton_says_so(tmp_path):
    take, asf = write_acclaim(tmp_path)
    take.write_text(take.read_text().replace("lfemur", "ltail"))
    with pytest.raises(FormatError, match="ltail"):
        amc.read(take, asf, rate=120.0)
    take.write_text(take.read_text()[:300])
    with pytest.raises(FormatError):
        amc.read(take, asf, rate=120.0)
    with pytest.raises(FormatError, match="cannot read"):
        amc.read(tmp_path / "none.amc", asf, rate=120.0)


def test_prepared_files_are_read_in_metres(tmp_path):
    joints = np.arange(2 * 17 * 3, dtype=np.int16).reshape(2, 17, 3)
    np.savez(tmp_path / "set.npz", a=joints)
    (tmp_path / "set.json").write_text(json.dumps([{"key": "a", "cls": "walk", "subject": "s1"}]))
    (motion,) = mocap.read(tmp_path / "set.npz")
    assert motion.joints == pytest.approx(joints * 0.0005)
    assert (motion.kind, motion.subject, motion.rate, motion.seconds) == ("walk", "s1", 60.0, 2 / 60)
    (tmp_path / "set.npz").write_bytes(b"PK")
    with pytest.raises(FormatError, match="cannot be read"):
        mocap.read(tmp_path / "set.npz")


def test_a_motion_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="17, 3"):
        Motion("m", np.zeros((4, 15, 3), np.float32), 60.0)


@pytest.mark.skipif(not SHARED.exists(), reason="the motion capture is not here")
def test_the_real_files_hold_people():
    motions = mocap.read(SHARED / "source_val")
    assert len(motions) == 26
    head, ankle = H36M17.index("head"), H36M17.index("left_ankle")
    tall = np.concatenate([m.joints[:, head, 2] - m.joints[:, ankle, 2] for m in motions])
    assert 1.3 < np.median(tall) < 1.8


def test_written_motion_is_read_back_to_half_a_millimetre(tmp_path):
    random = np.random.default_rng(3)
    swing = random.normal(size=(90, 17, 3)).astype(np.float32).cumsum(axis=0) * 0.01
    walk = Motion("walk", swing, 60.0, "walk", "me")
    mocap.write(tmp_path / "mine.npz", [walk, Motion("fast", swing, 120.0), Motion("one", swing[:1], 30.0)])
    same, fast, one = mocap.read(tmp_path / "mine")
    assert (same.name, same.kind, same.subject, same.rate) == ("walk", "walk", "me", 60.0)
    assert np.abs(same.joints - swing).max() < 0.00026
    assert np.abs(fast.joints - swing[::2]).max() < 0.00026
    assert len(one.joints) == 1


def test_motion_that_does_not_fit_the_file_is_refused(tmp_path):
    still = np.zeros((4, 17, 3), np.float32)
    for wrong, message in (
        ([Motion("a", still, 60.0), Motion("a", still, 60.0)], "two clips"),
        ([Motion("far", still + 20, 60.0)], "20 m from the origin"),
        ([Motion("hole", still * np.nan, 60.0)], "nan m from the origin"),
    ):
        with pytest.raises(FormatError, match=message):
            mocap.write(tmp_path / "mine.npz", wrong)
    assert not list(tmp_path.iterdir())
