from __future__ import annotations

from dataclasses import replace

import bvhio
import numpy as np
import pytest
from scenes import swinging_person
from scipy.spatial.transform import Rotation

from twoview.errors import FormatError
from twoview.formats import notes, write
from twoview.formats.bvh import bvh_note
from twoview.formats.markers import marker_names, y_up
from twoview.poses import Poses3D
from twoview.skeleton import COCO17, H36M17, HALPE26

RATE = 30000 / 1001


@pytest.fixture
def poses():
    """A person whose bones have one length each."""
    return with_fixed_bones(replace(swinging_person(20, rate=RATE), time=1.5 + np.arange(20) / RATE))


def with_fixed_bones(poses: Poses3D) -> Poses3D:
    xyz = poses.xyz.astype(float)
    for parent, child in H36M17.bones:  # parents come first
        bone = poses.xyz[:, child].astype(float) - poses.xyz[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        xyz[:, child] = xyz[:, parent] + bone / length * length.mean()
    return replace(poses, xyz=xyz)


def read(path, skeleton=H36M17) -> tuple[np.ndarray, dict[str, np.ndarray], float]:
    """Places (T, J, 3), turns against their parents by name (T, 3, 3) and frame time that bvhio reads."""
    about = bvhio.readAsBvh(str(path))
    root = bvhio.readAsHierarchy(str(path))
    joints = {joint.Name: joint for joint, _, _ in root.layout()}
    places = []
    for frame in range(about.FrameCount):
        root.loadPose(frame)
        places.append([list(joints[name].PositionWorld) for name in marker_names(skeleton)])
    turns = {}
    for joint, _, _ in about.Root.layout():
        quaternions = [[q.x, q.y, q.z, q.w] for q in (moment.Rotation for moment in joint.Keyframes)]
        turns[joint.Name] = Rotation.from_quat(quaternions).as_matrix()
    return np.array(places), turns, about.FrameTime


def test_bvhio_reads_places_lengths_and_rate(tmp_path, poses):
    places, _, step = read(write(poses, tmp_path / "a.bvh"))
    assert step == pytest.approx(1 / RATE, abs=1e-8)
    assert np.abs(places - y_up(poses.xyz)).max() < 1e-4
    for parent, child in H36M17.bones:
        lengths = np.linalg.norm(places[:, child] - places[:, parent], axis=-1)
        assert lengths == pytest.approx(np.linalg.norm(poses.xyz[0, child] - poses.xyz[0, parent]), abs=1e-4)
    assert notes(poses, ["bvh"]) == ()


@pytest.mark.parametrize("skeleton", [COCO17, HALPE26])
def test_other_skeletons_are_read_back(tmp_path, skeleton):
    rng = np.random.default_rng(0)
    xyz = np.zeros((5, len(skeleton), 3))
    for joint in body_order(skeleton):
        if joint != skeleton.root:
            bone = rng.normal(size=(5, 3))
            xyz[:, joint] = xyz[:, skeleton.parents[joint]] + 0.3 * bone / np.linalg.norm(bone, axis=-1, keepdims=True)
    poses = Poses3D(xyz, np.arange(5) / 30, skeleton, unit="m")
    places, _, _ = read(write(poses, tmp_path / "a.bvh"), skeleton)
    assert np.abs(places - y_up(xyz)).max() < 1e-4


def body_order(skeleton) -> list[int]:
    """Joints with their parents before them."""
    order = [skeleton.root]
    for joint in order:
        order += [child for parent, child in skeleton.bones if parent == joint]
    return order


def test_the_whole_body_turns_with_the_hips_and_nothing_else_does(tmp_path, poses):
    still = Poses3D(np.repeat(poses.xyz[:1], 20, axis=0), poses.time, unit="m")
    about_up = Rotation.from_euler("y", np.linspace(0, 300, 20)[:, None], degrees=True).as_matrix()
    turned = replace(still, xyz=np.einsum("tij,tkj->tki", about_up, still.xyz - still.xyz[:, :1]))
    path = write(turned, tmp_path / "a.bvh")
    rows = np.array([line.split() for line in path.read_text().splitlines()[-20:]], float)
    assert np.abs(np.diff(rows[:, 3:], axis=0)).max() < 90  # no jump of a whole turn
    _, turns, _ = read(path)
    expected = np.diag([1, -1, -1]) @ about_up @ np.diag([1, -1, -1])
    assert np.abs(turns["Hip"] @ turns["Hip"][0].T - expected).max() < 1e-4
    for name in set(turns) - {"Hip"}:
        assert np.abs(turns[name] - turns[name][0]).max() < 1e-4, name


def test_a_head_that_turns_leaves_the_thorax_where_it_is(tmp_path, poses):
    xyz = np.repeat(poses.xyz[:1], 20, axis=0)
    neck, nose, head = (H36M17.index(joint) for joint in ("thorax", "nose", "head"))
    nods = Rotation.from_euler("x", np.linspace(0, 40, 20)[:, None], degrees=True).as_matrix()
    for joint in (nose, head):
        xyz[:, joint] = xyz[:, neck] + np.einsum("tij,tj->ti", nods, xyz[:, joint] - xyz[:, neck])
    _, turns, _ = read(write(replace(poses, xyz=xyz), tmp_path / "a.bvh"))
    moved = {name for name, turn in turns.items() if np.abs(turn - turn[0]).max() > 1e-4}
    assert "NoseBase" in moved
    assert moved <= {"NoseBase", "Nose"}


@pytest.mark.parametrize(("name", "rest"), [("RHip", (0, -1, 0)), ("LKnee", (0, -1, 0)), ("LShoulder", (1, 0, 0)),
                                            ("RElbow", (-1, 0, 0)), ("Nose", (0, 1, 0))])  # fmt: skip
def test_limbs_have_no_twist_that_was_not_measured(tmp_path, poses, name, rest):
    _, turns, _ = read(write(poses, tmp_path / "a.bvh"))
    axes = Rotation.from_matrix(turns[name]).as_rotvec()
    assert np.abs(axes @ rest).max() < 1e-4
    assert np.abs(axes).max() > 0.01


def test_gaps_and_bones_of_changing_length_are_said(tmp_path, poses):
    xyz = poses.xyz.copy()
    xyz[5:8, 3] = np.nan
    xyz[:3, 16] = np.nan
    gaps = replace(poses, xyz=xyz)
    places, _, _ = read(write(gaps, tmp_path / "a.bvh"))
    known = np.isfinite(xyz)
    assert np.abs(places - y_up(poses.xyz))[known].max() < 1e-4
    assert np.abs(places - y_up(poses.xyz)).max() < 0.1
    assert bvh_note(gaps) == "1.8% of the joints are unknown and were interpolated"
    longer = poses.xyz.copy()
    longer[::2, 3] += 0.1 * (longer[::2, 3] - longer[::2, 2])
    (note,) = notes(replace(poses, xyz=longer), ["csv", "bvh"])
    moved = np.linalg.norm(longer - poses.xyz, axis=-1).max() / 2  # the median lies in the middle
    assert note.startswith("bvh: bones have one length each, which moves joints by 0.00")
    assert note.endswith(f"and {moved:.3f} at most")


def test_a_joint_that_is_never_known_lies_on_its_parent_and_a_root_is_refused(tmp_path, poses):
    xyz = poses.xyz.copy()
    xyz[:, H36M17.index("head")] = np.nan
    places, _, _ = read(write(replace(poses, xyz=xyz), tmp_path / "a.bvh"))
    assert np.abs(places[:, H36M17.index("head")] - places[:, H36M17.index("nose")]).max() < 1e-5
    xyz[:, 0] = np.nan
    with pytest.raises(FormatError, match="pelvis"):
        write(replace(poses, xyz=xyz), tmp_path / "b.bvh")


def test_a_limb_that_folds_back_whole_has_a_turn(tmp_path, poses):
    xyz = poses.xyz.copy()
    hip, knee, ankle = (H36M17.index(f"left_{part}") for part in ("hip", "knee", "ankle"))
    xyz[:, ankle] = xyz[:, knee] + 0.9 * (xyz[:, hip] - xyz[:, knee])
    places, _, _ = read(write(replace(poses, xyz=xyz), tmp_path / "a.bvh"))
    assert np.abs(places - y_up(xyz)).max() < 1e-4
