"""Boxes, crops and decoding, on cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SHARED

from twoview.detectors import build, crops, person_finders, rtmpose
from twoview.detectors.onnx_runtime import open_session
from twoview.errors import DetectorError

MODELS = SHARED / "models"
VIDEO = SHARED / "data" / "video" / "pose2sim_single" / "videos" / "cam02.mp4"


@given(
    st.floats(-50, 500),
    st.floats(-50, 500),
    st.floats(5, 400),
    st.floats(5, 400),
    st.sampled_from([(192, 256), (256, 256)]),
)
def test_a_crop_holds_the_whole_box_in_its_middle(left, top, width, height, size):
    box = np.array([left, top, left + width, top + height])
    matrix = crops.crop_matrix(box, size, padding=1.25)
    corners = np.array([[left, top], [left + width, top + height]]) @ matrix[:, :2].T + matrix[:, 2]
    assert (corners >= -1e-6).all()
    assert (corners <= np.array(size) + 1e-6).all()
    np.testing.assert_allclose(corners.mean(axis=0), np.array(size) / 2)
    np.testing.assert_allclose(crops.uncrop(corners, matrix)[0], [left, top], atol=1e-6)


def test_a_bright_pixel_is_found_again_through_the_crop():
    rgb = np.zeros((300, 400, 3), np.uint8)
    rgb[140, 210] = 255
    matrix = crops.crop_matrix(np.array([100.0, 60.0, 300.0, 260.0]), (192, 256), padding=1.25)
    cut = crops.crop(rgb, matrix, (192, 256))[..., 0].astype(float)
    y, x = np.mgrid[: cut.shape[0], : cut.shape[1]]
    found = np.array([(cut * x).sum(), (cut * y).sum()]) / cut.sum()
    np.testing.assert_allclose(crops.uncrop(found, matrix), [210, 140], atol=0.3)


def test_points_go_through_the_letterbox_and_back():
    small, scale = crops.letterbox(np.zeros((480, 640, 3), np.uint8), (320, 320), 114)
    assert small.shape == (320, 320, 3)
    assert scale == 0.5
    assert (small[240:] == 114).all()
    np.testing.assert_allclose(crops.unletterbox(np.array([0.0, 0.0]), 0.5), [0.5, 0.5])  # center of four pixels


def test_of_two_boxes_on_one_person_the_surer_stays():
    boxes = np.array([[0, 0, 10, 20, 0.5], [1, 0, 11, 20, 0.9], [40, 0, 50, 20, 0.3]])
    kept = crops.keep_best(boxes, most_overlap=0.6)
    np.testing.assert_allclose(kept[:, 4], [0.9, 0.3])


def test_simcc_takes_the_highest_bin_and_the_lower_of_the_two_heights():
    x, y = np.zeros((1, 2, 96)), np.zeros((1, 2, 128))
    x[0, 0, 30], y[0, 0, 50] = 0.9, 0.7
    x[0, 1, 10], y[0, 1] = 0.8, -0.1
    xy, score = rtmpose.decode(x, y, (48, 64))
    np.testing.assert_allclose(xy[0, 0], [15.0, 25.0])
    assert score[0, 0] == pytest.approx(0.7)
    assert np.isnan(xy[0, 1]).all()
    assert score[0, 1] == 0


@pytest.mark.skipif(not MODELS.exists(), reason="needs the models of the shared folder")
def test_the_simcc_fixture_decodes_as_its_outputs_say():
    session = open_session(MODELS / "simcc_fixture" / "simcc_3pt.onnx", device="cpu")
    inputs = rtmpose.prepare(np.full((1, 64, 48, 3), 90, np.uint8))
    assert inputs.shape == (1, 3, 64, 48)
    x, y = session.run(None, {"input": inputs})
    xy, score = rtmpose.decode(x, y, (48, 64))
    for joint in range(x.shape[1]):
        sure = min(x[0, joint].max(), y[0, joint].max())
        assert score[0, joint] == pytest.approx(np.clip(sure, 0, 1))
        if sure > 0:
            np.testing.assert_allclose(xy[0, joint], [x[0, joint].argmax() / 2, y[0, joint].argmax() / 2])


def test_rgb_is_normalized_with_means_in_rgb_order():
    red = np.zeros((1, 64, 48, 3), np.uint8)
    red[..., 0] = 255
    middle = rtmpose.prepare(red)[0, :, 32, 24]
    np.testing.assert_allclose(middle, [(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "score"), [("rtmdet-made.onnx", (60 - 103.53) / 57.375 + 1.4), ("yolox-made.onnx", 61.4)]
)
def test_a_finder_reads_blue_first_and_gives_the_people_among_its_boxes_in_picture_pixels(tmp_path, name, score):
    """A made network: a person, scored by the mean of its first color plane plus 1.4, and something else."""
    from onnx import TensorProto, helper, numpy_helper

    boxes = np.array([[10, 20, 30, 60, 0], [40, 5, 60, 25, 0]], np.float32)[None]
    last = np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]], np.float32)[None]
    nodes = [
        helper.make_node("Slice", ["input", "zero", "one", "axis"], ["plane"]),
        helper.make_node("ReduceMean", ["plane"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "more"], ["score"]),
        helper.make_node("Mul", ["last", "score"], ["scores"]),
        helper.make_node("Add", ["boxes", "scores"], ["dets"]),
    ]
    known = {"boxes": boxes, "last": last, "more": np.array([1.4], np.float32), "labels": np.array([[0, 32]])}
    known |= {"zero": np.array([0]), "one": np.array([1]), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 2, 5]),
         helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2])],
        [numpy_helper.from_array(value, key) for key, value in known.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / name).write_bytes(model.SerializeToString())
    rgb = np.empty((128, 128, 3), np.uint8)
    rgb[:] = (200, 130, 60)
    found = person_finders.build_finder(str(tmp_path / name), device="cpu").find(rgb)
    np.testing.assert_allclose(found, [[20.5, 40.5, 60.5, 120.5, score]], rtol=1e-5)


@pytest.mark.skipif(not (MODELS.exists() and VIDEO.exists()), reason="needs the models and videos of the shared folder")
def test_rtmdet_finds_the_man_where_multipose_does():
    from twoview.media.video import frames

    rgb = next(iter(frames(VIDEO))).rgb
    finder = person_finders.build_finder(str(MODELS / "rtmdet_nano" / "rtmdet-nano.onnx"), device="cpu")
    best, other = finder.find(rgb)[0], build("movenet", device="cpu").find(rgb)[0]  # type: ignore[attr-defined]
    assert best[4] > 0.5
    assert crops.overlap(best[None], other[None])[0, 0] > 0.6


def test_a_finder_that_nobody_knows():
    with pytest.raises(DetectorError, match="unknown person finder 'person"):
        person_finders.build_finder("person.onnx")
    with pytest.raises(DetectorError, match="unknown detector 'rtmpos'"):
        build("rtmpos")


def test_yolox_rows_become_boxes_in_pixels():
    rows = np.zeros((4 * 4 + 2 * 2 + 1, 7))
    rows[5] = [0.5, 0.5, np.log(2.0), np.log(4.0), 0.9, 0.8, 0.1]  # cell (1, 1) of stride 8
    boxes = person_finders._grid(rows, (32, 32))
    np.testing.assert_allclose(boxes[5], [12 - 8, 12 - 16, 12 + 8, 12 + 16, 0.72])
