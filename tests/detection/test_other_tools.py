"""Other tools' detections: files laid out as those tools lay them out, and there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from other_files import BODY25_PLACES, SIZE, flat, halpe, poses, triples

from twoview.config import DetectConfig
from twoview.detection.joint_orders import BODY25
from twoview.detection.other_tools import import_poses
from twoview.detection.readers import READERS, read_detections, recognize
from twoview.detection.writers import WRITERS, write_detections
from twoview.errors import DetectorError, FormatError
from twoview.media.writer import VideoWriter
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, H36M17, HALPE26, Skeleton

FRAMES = 20
UNCHECKED = DetectConfig(check=False)


def poses_of(skeleton: Skeleton = COCO17, shift: float = 0.0) -> Poses2D:
    """A moving body, one joint unseen now and then, nobody in frame 7; `shift` px to the right."""
    found = poses(skeleton, FRAMES, gaps=True)
    return replace(found, xy=0.4 * found.xy + np.array([shift, 60]), time=found.time + 0.5)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Frames at the times of `poses_of`: they do not start at 0, and one is late."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with VideoWriter(path, SIZE, 25) as writer:
        for i, time in enumerate(poses_of().time):
            writer.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), time=float(time) + (0.01 if i == 5 else 0.0))
    return path


def place(folder: Path, kind: str) -> Path:
    return folder / {"openpose": "walk_json", "deeplabcut": "walk.csv"}.get(kind, "walk.json")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("skeleton", [COCO17, HALPE26], ids=lambda s: s.name)
def test_written_and_read_again(kind, skeleton, video, tmp_path):
    poses, path = poses_of(skeleton), place(tmp_path, kind)
    write_detections(poses, path, kind)
    assert recognize(path) == kind
    again = import_poses(path, video, view="a", config=UNCHECKED)
    expected = poses
    if kind == "openpose" and skeleton == HALPE26:  # BODY_25 has no top of the head
        expected = poses_of(COCO17)
        np.testing.assert_allclose(again.score, np.where(poses.score > 0, 0.75, 0)[:, :17], atol=1e-4)
    else:
        assert again.skeleton == skeleton
        np.testing.assert_allclose(again.xy, expected.xy, atol=1e-3)
        np.testing.assert_allclose(again.score, expected.score, atol=1e-4)
    assert again.time[0] == pytest.approx(0.5, abs=1e-3)
    assert again.time[5] - again.time[4] == pytest.approx(0.05, abs=2e-3)  # true times, not frame numbers over a rate
    assert again.view == "a"


def test_openpose_body25_joint_order(tmp_path):
    joints = triples(halpe(4))[3, BODY25_PLACES]
    frame = {"people": [{"pose_keypoints_2d": flat(joints)}]}
    (tmp_path / "x_000000000003_keypoints.json").write_text(json.dumps(frame))
    found = read_detections(tmp_path)
    assert found.frame.tolist() == [3]
    for joint, place_in_file in (("nose", 0), ("right_wrist", 4), ("left_ankle", 14), ("left_ear", 18)):
        np.testing.assert_allclose(found.xy[0, COCO17.index(joint)], joints[place_in_file, :2], atol=1e-3)
    assert len(BODY25) == 25


def test_alphapose_with_two_tracked_people(tmp_path, video):
    entries = []
    for who, shift in ((4, 0.0), (9, 120.0)):
        poses = poses_of(shift=shift)
        for frame in range(FRAMES):
            flat = np.nan_to_num(np.concatenate([poses.xy[frame], poses.score[frame][:, None]], axis=1)).ravel()
            entries.append({"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": flat.tolist(), "score": 2.9,
                            "box": [0, 0, 1, 1], "idx": [who]})  # fmt: skip
    path = tmp_path / "alphapose-results.json"
    path.write_text(json.dumps(entries))
    second = import_poses(path, video, config=replace(UNCHECKED, person=9))
    np.testing.assert_allclose(second.xy, poses_of(shift=120.0).xy, atol=1e-3)
    with pytest.raises(DetectorError, match="no person 1 in this video; there are"):
        import_poses(path, video, config=replace(UNCHECKED, person=1))


def test_people_without_numbers_are_tracked(tmp_path, video):
    entries = []
    for frame in range(FRAMES):
        pair = [poses_of(), poses_of(shift=150.0)]
        for one in pair if frame % 2 else pair[::-1]:  # their order in the file changes
            values = np.nan_to_num(np.concatenate([one.xy[frame], one.score[frame][:, None]], axis=1))
            entries.append({"image_id": frame, "category_id": 1, "keypoints": values.ravel().tolist(), "score": 0.9})
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(DetectorError, match="2 people"):
        import_poses(path, video, config=replace(UNCHECKED, sureness=0.99))
    one = import_poses(path, video, config=replace(UNCHECKED, person=0))
    np.testing.assert_allclose(one.xy, poses_of(shift=150.0 if one.xy[0, 0, 0] > 200 else 0.0).xy, atol=1e-3)


def test_deeplabcut_names_in_other_spellings(tmp_path):
    joints = ["Nose", "LEye", "REye", "LEar", "REar"]
    joints += [
        f"{side}{part}" for part in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle") for side in ("left", "right")
    ]
    lines = [["scorer"] + ["DLC"] * 51, ["bodyparts"] + [j for j in joints for _ in range(3)],
             ["coords"] + ["x", "y", "likelihood"] * 17, ["0"] + ["10", "20", "0.9"] * 17]  # fmt: skip
    path = tmp_path / "dlc.csv"
    path.write_text("\n".join(",".join(line) for line in lines))
    found = read_detections(path)
    assert found.skeleton == COCO17
    assert (found.xy == [10, 20]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged or not JSON"),
        ("[]", "in none of the formats openpose"),
        ('{"instance_info": []}', "holds no person"),
        ('[{"image_id": 1, "keypoints": [1, 2, 3]}]', "people have 1 joints, and the file does not name them"),
        ('[{"image_id": 1, "keypoints": [1, 2]}]', "not triples"),
        ('[{"image_id": 1}]', "entry 0: 'keypoints' is missing"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    path = tmp_path / "strange.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=message):
        read_detections(path)


def test_detections_of_a_longer_video(tmp_path, video):
    path = tmp_path / "walk.json"
    flat = [1.0, 2.0, 0.9] * 17
    path.write_text(json.dumps([{"image_id": i, "category_id": 1, "keypoints": flat, "score": 1} for i in (0, 99)]))
    with pytest.raises(FormatError, match=r"has frames 0 to 99 and .* has 20 frames"):
        import_poses(path, video, config=UNCHECKED)


def test_kinds_that_there_are_not(tmp_path):
    assert set(WRITERS) <= set(READERS)
    with pytest.raises(FormatError, match="known: openpose"):
        write_detections(poses_of(), tmp_path / "x", "vicon")
    with pytest.raises(FormatError, match="h36m17"):
        write_detections(poses_of(COCO17).to(H36M17), tmp_path / "x.json", "coco")
