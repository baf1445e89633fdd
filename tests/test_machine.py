"""What the machine gives: memory that is kept between steps, memory that goes back, and devices."""

from __future__ import annotations

import os
import subprocess
import sys

import onnxruntime
import pytest
import torch
from places import ROOT

from twoview.detectors.onnx_runtime import open_session
from twoview.errors import DetectorError, LifterError
from twoview.machine import onnx_device, precision_of, torch_device

PROGRAM = """
import resource, numpy as np
from twoview.machine import keep_memory, keep_memory_low
def faults():  # pages fetched from the system by 20 arrays of 2 MB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for setting in (keep_memory, keep_memory_low, keep_memory):
    setting()
    np.ones(1 << 18)
    print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have settings of their own")
def test_kept_memory_is_fetched_once_and_low_memory_every_time():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    kept, low, again = map(int, done.stdout.split())
    assert low > 20 * 400 > 100 * max(kept, again)


def test_auto_is_a_device_that_is_here():
    assert torch_device("auto", LifterError).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch_device("cpu", LifterError) == torch.device("cpu")
    assert onnx_device("auto") in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("able", "lifter", "chosen"), [(True, "tcn", "bf16"), (False, "tcn", "fp32"), (True, "dstformer", "fp32")]
)
def test_16_bits_are_chosen_only_where_they_are_faster(monkeypatch, able, lifter, chosen):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: able, raising=False)
    assert precision_of("auto", "cpu", lifter) == chosen
    assert precision_of("bf16", "cpu", lifter) == "bf16"


def test_a_device_that_is_not_here_is_the_error_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DetectorError, match="cuda was asked for") as caught:
        torch_device("cuda", DetectorError)
    assert "--device cpu" in caught.value.hint
    with pytest.raises(LifterError, match="no device 'cuda:77'"):
        torch_device("cuda:77", LifterError)
    with pytest.raises(LifterError, match="no device 'tpu9'"):
        torch_device("tpu9", LifterError)


@pytest.mark.parametrize(
    ("device", "provider", "remedy"),
    [
        ("cuda", "CUDAExecutionProvider", "pip install onnxruntime-gpu"),
        ("mps", "CoreMLExecutionProvider", "--device cpu"),
        ("directml", "DmlExecutionProvider", "pip install onnxruntime-directml"),
    ],
)
def test_a_device_is_the_provider_of_its_name_or_refused(monkeypatch, device, provider, remedy):
    asked = []

    class Session:
        def __init__(self, path, options, providers, enable_fallback):
            asked.extend(providers)
            self.get_providers, self.get_inputs, self.get_outputs = lambda: providers, list, list

    model = ROOT / "twoview" / "assets" / "movenet" / "movenet-thunder.w16.onnx"
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DetectorError, match=f"this ONNX Runtime has no {provider}") as caught:
        open_session(model, device=device)
    assert remedy in caught.value.hint
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    open_session(model, device=device)
    assert asked == [provider]


def test_an_unknown_device_is_refused():
    with pytest.raises(DetectorError, match="unknown device 'tpu'"):
        onnx_device("tpu")


def test_an_opencv_that_needs_libgl_is_one_line_with_both_remedies(tmp_path):
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")')
    done = subprocess.run(
        [sys.executable, "-m", "twoview", "detect", "--session", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("MissingBackend: OpenCV cannot be imported: libGL.so.1")
    assert "opencv-python-headless" in done.stderr
    assert "apt install libgl1" in done.stderr
