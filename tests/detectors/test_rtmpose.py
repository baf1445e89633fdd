"""One RTMPose, four ways: plain PyTorch, its ONNX export, MMPose itself and rtmlib give the same keypoints.

Official weights cannot be had here, so the network has seeded random ones, with MMPose's own config and file layout.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from twoview.detectors.rtmpose import OnnxEngine, RTMPose
from twoview.errors import DetectorError, MissingBackend
from twoview.skeleton import COCO17

CONFIG = "rtmpose-s_8xb256-420e_body8-256x192"
RTMLIB = Path(os.environ.get("TWOVIEW_RTMLIB_PYTHON", "/tmp/rtmvenv/bin/python"))
needs_mmpose = pytest.mark.skipif(
    importlib.util.find_spec("mmpose") is None, reason="mmpose is not installed (see docs/howto/own-detector.md)"
)
BOXES = np.array([[100.0, 50.0, 400.0, 700.0], [600.3, 200.7, 900.2, 420.9], [1000.0, -30.0, 1300.0, 500.0]])


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    blurred = cv2.GaussianBlur(rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8), (0, 0), 5)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint as MMPose would save it, and its ONNX export."""
    import torch

    from twoview.detectors.rtmpose_network import RTMPoseNet

    torch.manual_seed(0)
    network = RTMPoseNet("s").eval()
    chance = torch.Generator().manual_seed(1)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=chance))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=chance))
    with torch.no_grad():  # scores inside 0..1, as trained weights give
        x, y = network(torch.randn(1, 3, 256, 192, generator=chance))
        network.head.cls_x.weight.mul_(0.2 / x.max())
        network.head.cls_y.weight.mul_(0.2 / y.max())
    folder = tmp_path_factory.mktemp("rtmpose")
    meta = {
        "keypoint_id2name": dict(enumerate(COCO17.joints)), "num_keypoints": 17,
        "flip_indices": list(COCO17.flip_order), "sigmas": np.full(17, 0.05, np.float32),
    }  # fmt: skip
    torch.save({"meta": {"dataset_meta": meta}, "state_dict": network.state_dict()}, folder / "rtmpose-s.pth")
    torch.onnx.export(
        network, (torch.zeros(1, 3, 256, 192),), folder / "rtmpose-s.onnx", input_names=["input"],
        output_names=["simcc_x", "simcc_y"], dynamic_axes={n: {0: "n"} for n in ("input", "simcc_x", "simcc_y")},
        dynamo=False, verbose=False,
    )  # fmt: skip
    return folder / "rtmpose-s.pth", folder / "rtmpose-s.onnx"


@pytest.fixture(scope="module")
def reference(files, picture) -> tuple[np.ndarray, np.ndarray]:
    return RTMPose(str(files[0]), device="cpu").pose([picture] * 3, BOXES)


@pytest.mark.slow
def test_scores_are_those_of_the_network_and_not_cut(reference):
    assert (reference[1] > 0.01).mean() > 0.9
    assert reference[1].max() < 1
    assert np.unique(reference[1]).size > 0.8 * reference[1].size


@pytest.mark.slow
def test_the_onnx_export_agrees_with_pytorch(files, picture, reference):
    detector = RTMPose(str(files[1]), device="cpu")
    assert "ONNX Runtime, cpu" in detector.name
    xy, score = detector.pose([picture] * 3, BOXES)
    np.testing.assert_allclose(xy, reference[0], atol=0.05)
    np.testing.assert_allclose(score, reference[1], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [False, True])
@needs_mmpose
def test_mmpose_itself_agrees(files, picture, flip):
    from twoview.detectors.mmpose import MMPose

    theirs = MMPose(f"{CONFIG},{files[0]}", device="cpu", flip=flip)
    ours = RTMPose(str(files[0]), device="cpu", flip=flip)
    (xy, score), (their_xy, their_score) = ours.pose([picture] * 3, BOXES), theirs.pose([picture] * 3, BOXES)
    np.testing.assert_allclose(score, their_score, atol=1e-5)
    same = np.abs(xy - their_xy) < 0.05
    # Random weights hardly see the picture: averaged with its mirror image a row can be symmetric, its two peaks equal.
    assert same.mean() > 0.95 if flip else same.all()


@pytest.mark.slow
@needs_mmpose
def test_the_import_guard_puts_everything_back():
    script = (
        "import sys; from twoview.detectors.mmpose import mmpose_imports\n"
        "with mmpose_imports():\n    import mmpose.apis\n"
        "left = [m for m in ('torchvision', 'mmcv.ops', 'mmdet', 'xtcocotools') if m in sys.modules]\n"
        "assert not left, left"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_without_mmpose_the_command_that_installs_it(monkeypatch):
    from twoview.detectors import build

    monkeypatch.delitem(sys.modules, "mmengine", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mmengine" else object())
    with pytest.raises(MissingBackend, match="mmengine is not installed") as caught:
        build("mmpose:rtmpose-s")
    assert "pip install --no-deps mmpose" in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(not RTMLIB.exists(), reason=f"rtmlib is not installed in {RTMLIB.parent.parent}")
def test_rtmlib_agrees_when_it_is_fed_rgb(files, picture, reference, tmp_path):
    np.savez(tmp_path / "in.npz", picture=picture, boxes=BOXES)
    script = (
        "import sys, numpy as np; from rtmlib import RTMPose\n"
        "given = np.load(sys.argv[2])\n"
        "pose = RTMPose(sys.argv[1], model_input_size=(192, 256), backend='onnxruntime', device='cpu')\n"
        "xy, score = pose(given['picture'], bboxes=given['boxes'].tolist())\n"
        "np.savez(sys.argv[3], xy=xy, score=score)"
    )
    command = [str(RTMLIB), "-c", script, str(files[1]), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["xy"], reference[0], atol=0.05)


# --- files that do not fit -----------------------------------------------------------------------------------------


def test_a_damaged_onnx_file(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(DetectorError, match="cannot be read as an ONNX model"):
        RTMPose(str(path), device="cpu")


def test_an_onnx_file_of_another_model_says_what_was_expected_and_what_it_is():
    from twoview.storage.weights import locate

    with pytest.raises(DetectorError, match=r"expected one input .*two SimCC outputs.*got inputs input:0 .*256, 256"):
        OnnxEngine(locate("movenet-thunder"), device="cpu")


def test_a_checkpoint_of_another_model(tmp_path):
    import torch

    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(DetectorError, match="not an RTMPose checkpoint"):
        RTMPose(str(tmp_path / "other.pth"), device="cpu")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    import torch

    torch.save({"state_dict": {}, "hook": subprocess.Popen}, tmp_path / "evil.pth")
    with pytest.raises(DetectorError, match=r"Popen.*could run code when read: refused"):
        RTMPose(str(tmp_path / "evil.pth"), device="cpu")


def test_a_missing_file(tmp_path):
    with pytest.raises(DetectorError, match="no such file"):
        RTMPose(str(tmp_path / "none.onnx"), device="cpu")


def test_a_halpe_model_brings_its_own_joints(tmp_path, picture):
    import torch

    from twoview.detectors.rtmpose_network import RTMPoseNet
    from twoview.skeleton import HALPE26

    torch.manual_seed(0)
    torch.save({"state_dict": RTMPoseNet("t", joints=26).state_dict()}, tmp_path / "halpe.pth")
    detector = RTMPose(str(tmp_path / "halpe.pth"), device="cpu")
    assert detector.skeleton == HALPE26
    xy, score = detector.pose([picture], BOXES[:1])
    assert xy.shape == (1, 26, 2)
    assert score.shape == (1, 26)
    torch.save({"state_dict": RTMPoseNet("t", joints=133).state_dict()}, tmp_path / "whole.pth")
    with pytest.raises(DetectorError, match="133 keypoints; expected 17"):
        RTMPose(str(tmp_path / "whole.pth"), device="cpu")


def test_mmpose_without_a_model_says_how_to_name_one():
    from twoview.detectors import build

    with pytest.raises(DetectorError, match="needs to know which model"):
        build("mmpose")
