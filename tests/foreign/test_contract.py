"""What every reader of other tools' detections must do with any content: read it right, or say what is wrong."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from other_files import LAYOUTS, SIZE, Eye, film, halpe, poses

from twoview.config import DetectConfig
from twoview.detection.other_tools import import_athlete
from twoview.detection.readers import READERS, read_detections, recognize
from twoview.detection.writers import SUFFIXES, WRITERS, write_detections
from twoview.errors import TwoViewError
from twoview.poses import Poses2D
from twoview.skeleton import COCO17, HALPE26
from twoview.workflow.summary import describe

LENGTH = 12
XY = halpe(LENGTH)
OF_READER = {  # one layout of each reader
    "openpose": "Pose2Sim's 26", "alphapose": "alphapose", "coco": "coco results", "mmpose": "mmpose inferencer",
    "deeplabcut": "deeplabcut", "sleap": "sleap", "sports2d": "sports2d", "videopose3d": "videopose3d",
}  # fmt: skip
FOREIGN = ("Error(", "invalid literal", "could not convert", "NoneType", "Traceback", "delete it", "object has no")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return film(tmp_path_factory.mktemp("contract") / "clip.mp4", LENGTH)


def parts(path):
    return sorted(path.iterdir()) if path.is_dir() else [path]


def empty(path):
    for part in parts(path):
        part.write_bytes(b"")


def truncated(path):
    for part in parts(path)[-1:]:
        part.write_bytes(part.read_bytes()[: int(0.6 * part.stat().st_size)])


def other_encoding(path):
    for part in parts(path)[:1]:
        part.write_bytes(part.read_bytes().decode("latin-1").encode("utf-16"))


def swapped_content(path):
    for part in parts(path)[:1]:
        part.write_bytes(b'{"a": {"b": [1, 2, {"c": null}]}, "people": 3, "annotations": 7, "instance_info": {"x": 1}}')


def list_of_numbers(path):
    for part in parts(path):
        part.write_bytes(b"[1, 2, 3]")


WRONG = [empty, truncated, other_encoding, swapped_content, list_of_numbers]


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("damage", WRONG, ids=lambda f: f.__name__)
def test_wrong_content_is_refused_with_the_file_and_the_reason(tool, damage, tmp_path):
    path = LAYOUTS[OF_READER[tool]](tmp_path, XY)
    damage(path)
    for named in (tool, None):
        with pytest.raises(TwoViewError) as error:
            read_detections(path, named)
        assert path.name in str(error.value)
        assert not [word for word in FOREIGN if word in str(error.value)], error.value


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("other", READERS)
def test_another_tools_file_is_refused_or_read_as_what_it_is(tool, other, tmp_path):
    path = LAYOUTS[OF_READER[other]](tmp_path, XY)
    assert recognize(path) == other
    if other == tool:
        return
    if (tool, other) == ("alphapose", "coco"):  # one layout but for the picture's name
        assert len(read_detections(path, tool).frame) == LENGTH
        return
    with pytest.raises(TwoViewError) as error:
        read_detections(path, tool)
    assert not [word for word in FOREIGN if word in str(error.value)], error.value


@pytest.mark.parametrize("tool", ["openpose", "alphapose", "coco", "mmpose", "videopose3d"])
def test_show_says_what_it_is_and_how_to_import_it(tool, tmp_path):
    path = LAYOUTS[OF_READER[tool]](tmp_path, XY)
    tables, following = describe(path)
    assert f"detections of {tool}" in str(tables)
    assert f"0 to {LENGTH - 1}, {LENGTH} of them with people" in str(tables)
    assert following == f"twoview detect --views a --from {path}"


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("frames", [1, LENGTH])
def test_few_frames_are_read(tool, frames, video, tmp_path):
    found = import_athlete(LAYOUTS[OF_READER[tool]](tmp_path, XY[:frames]), video, detector=Eye(XY))
    assert np.flatnonzero((found.poses.score > 0).any(axis=1)).tolist() == list(range(frames))
    np.testing.assert_allclose(found.poses.xy[:frames, :17], XY[:frames, :17], atol=0.01)


@pytest.mark.parametrize("tool", [tool for tool in READERS if tool != "videopose3d"])
def test_a_byte_order_mark_is_no_content(tool, tmp_path):
    path = LAYOUTS[OF_READER[tool]](tmp_path, XY)
    for part in parts(path):
        part.write_bytes(b"\xef\xbb\xbf" + part.read_bytes())
    assert len(read_detections(path).frame) == LENGTH


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("where", [(3000, 0), (-2000, 50)])
def test_a_body_outside_the_picture_is_never_found(tool, where, video, tmp_path):
    for check in (True, False):
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        (tmp_path / "x").mkdir()
        path = LAYOUTS[OF_READER[tool]](tmp_path / "x", XY + np.array(where))
        with pytest.raises(TwoViewError):
            import_athlete(path, video, detector=Eye(XY), config=DetectConfig(check=check))


def place(folder, tool):
    return folder / f"clip_{tool}{SUFFIXES[tool]}"


@pytest.mark.parametrize("tool", WRITERS)
@settings(max_examples=8)
@given(data=st.data())
def test_what_is_written_is_read_again_within_a_hundredth_of_a_pixel(tool, data, video, tmp_path_factory):
    skeleton = data.draw(st.sampled_from([COCO17, HALPE26]))
    unseen = data.draw(arrays(bool, (LENGTH, len(skeleton)), elements=st.sampled_from([False] * 4 + [True])))
    nobody = data.draw(arrays(bool, LENGTH, elements=st.sampled_from([False, False, True])))
    score = data.draw(arrays(np.float32, (LENGTH, len(skeleton)), elements=st.sampled_from([0.25, 0.5, 0.9375, 1.0])))
    body = poses(skeleton, LENGTH, angle=data.draw(st.integers(0, 359)), seed=data.draw(st.integers(0, 9)))
    score = np.where(unseen | nobody[:, None], 0.0, score)
    score = np.where(((score > 0).sum(axis=1) >= 12)[:, None], score, 0.0)
    assume((score > 0).any(axis=1).sum() >= 3)
    made = Poses2D(np.where(score[..., None] > 0, body.xy, np.nan), score, body.time, skeleton, SIZE)
    path = place(tmp_path_factory.mktemp("there"), tool)
    write_detections(made, path, tool)
    config = DetectConfig(check=False, repair=False, sureness=0.0)
    back = import_athlete(path, video, config=config).poses
    joints = len(back.skeleton)
    assert back.skeleton == (COCO17 if tool == "openpose" else skeleton)
    np.testing.assert_allclose(back.xy, made.xy[:, :joints], atol=0.01)
    np.testing.assert_allclose(back.score, made.score[:, :joints], atol=1e-3)
