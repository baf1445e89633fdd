"""ONNX files from strangers: refused with their name, whatever is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from no_files import put_no_file

from twoview.detectors.onnx_runtime import open_session
from twoview.detectors.person_finders import OnnxFinder
from twoview.detectors.rtmpose import OnnxEngine, decode
from twoview.errors import DetectorError
from twoview.storage.weights import ASSETS

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper  # noqa: E402


def network(path: Path, given: list, answers: dict[str, list], values: dict[str, np.ndarray]) -> Path:
    """A network that takes a picture and answers the same values for every one."""
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in answers.items()]
    nodes = []
    for name, value in values.items():
        tensor = helper.make_tensor(f"{name}_value", TensorProto.FLOAT, value.shape, value.astype(np.float32).ravel())
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
    graph = helper.make_graph(nodes, "made", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def simcc(path: Path, given: list, joints: object = 17, bins: int = 384) -> Path:
    shapes = {"x": [None, joints, bins], "y": [None, joints, 512]}
    values = {"x": np.zeros((1, 17, 384)), "y": np.zeros((1, 17, 512))}
    return network(path, given, shapes, values)


def test_the_networks_of_these_tests_work(tmp_path):
    engine = OnnxEngine(simcc(tmp_path / "m.onnx", [None, 3, 256, 192]), device="cpu")
    assert engine.run(np.zeros((1, 3, 256, 192), np.float32))[0].shape == (1, 17, 384)
    with pytest.raises(DetectorError, match="two SimCC outputs"):
        engine.run(np.zeros((2, 3, 256, 192), np.float32))


@pytest.mark.parametrize("given", [[None, 3, 10**9, 10**9], [None, 3, 0, 192], [None, 3, 5000, 192]])
def test_absurd_sizes_are_refused_before_a_picture_is_made(given, tmp_path):
    with pytest.raises(DetectorError, match=r"m\.onnx (is another kind|cannot be read)"):
        OnnxEngine(simcc(tmp_path / "m.onnx", given), device="cpu")
    with pytest.raises(DetectorError, match=r"m\.onnx (is another kind|cannot be read)"):
        OnnxFinder(simcc(tmp_path / "m.onnx", given), normalize=False, device="cpu")


def test_what_cannot_be_run_is_named(tmp_path):
    session = open_session(simcc(tmp_path / "m.onnx", [None, 3, 256, 192]), device="cpu")
    for feed in ({}, {"other": np.zeros(3)}, {"input": np.zeros((1, 3, 256, 192))}, {"input": np.zeros(3, np.float32)}):
        with pytest.raises(DetectorError, match=r"m\.onnx cannot be run") as caught:
            session.run(None, feed)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "values",
    [
        {"boxes": np.zeros((1, 4, 5)), "labels": np.zeros((1, 7))},
        {"boxes": np.zeros((1, 4, 3)), "labels": np.zeros((1, 4))},
        {"boxes": np.zeros((1, 4, 3))},
        {"rows": np.zeros((1, 10, 85))},
        {"a": np.zeros((1, 4, 4, 5)), "b": np.zeros((1, 0, 4, 5)), "c": np.zeros((1, 4, 4, 5))},
    ],
)
def test_a_finder_whose_answers_do_not_belong_together(values, tmp_path):
    shapes = {name: [None] * value.ndim for name, value in values.items()}
    path = network(tmp_path / "m.onnx", [1, 3, 64, 64], shapes, values)
    with pytest.raises(DetectorError, match="another kind of model"):
        OnnxFinder(path, normalize=False, device="cpu").find(np.zeros((64, 64, 3), np.uint8))


def test_names_that_are_no_text_are_refused_in_silence(tmp_path, capfd):
    path = simcc(tmp_path / "m.onnx", [None, 3, 256, 192])
    path.write_bytes(path.read_bytes().replace(b"input", b"inp\xb6t"))
    with pytest.raises(DetectorError, match=r"m\.onnx"):
        OnnxEngine(path, device="cpu")
    assert capfd.readouterr() == ("", "")


def test_scores_that_are_not_numbers_locate_nothing():
    x, y = np.full((1, 2, 8), np.nan), np.zeros((1, 2, 8))
    xy, score = decode(x, y, (4, 4))
    assert np.isnan(xy).all()
    assert not score.any()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are no files there")
@pytest.mark.parametrize("kind", ["pipe", "circle", "folder", "device", "empty", "cut", "changed"])
def test_what_is_no_model(kind, tmp_path, rng):
    path = tmp_path / "m.onnx"
    whole = (ASSETS / "movenet" / "movenet-multipose.w16.onnx").read_bytes()
    put_no_file(path, kind)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "changed":
        path.write_bytes(b"\x0a\xff\xff\xff\xff\x0f" + whole)
    with pytest.raises(DetectorError, match=r"m\.onnx") as caught:
        open_session(path, device="cpu")
    assert "\n" not in caught.value.message
