"""ONNX Runtime sessions: one thread each, on the device that was asked for, and errors for files that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twoview.errors import DetectorError
from twoview.machine import onnx_device, onnx_runtime


def open_session(path: Path, *, device: str = "auto") -> Any:
    """An InferenceSession on the device asked for. Raises DetectorError for a damaged file or a missing device."""
    onnxruntime, device = onnx_runtime(), onnx_device(device)
    options = onnxruntime.SessionOptions()
    # Frames are spread over cores instead. Waiting threads would take the cores' time from the decoder if they spun.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory kept between calls would be each thread's maximum: 10 MiB more for RTMPose-s, for 6 % less time.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    providers = ["CUDAExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime's own exceptions share no public base
        raise DetectorError(
            f"{path} cannot be read as an ONNX model: {str(error).splitlines()[0][:200]}",
            hint="download it again, or check that it is an .onnx file",
        ) from error
    if session.get_providers()[0] != providers[0]:  # the runtime falls back to the CPU silently
        raise DetectorError(
            f"device {device} was asked for, but ONNX Runtime loaded {session.get_providers()[0]}",
            hint="check the CUDA and cuDNN versions that onnxruntime-gpu needs, or use --device cpu",
        )
    return session


def misfit(path: Path, session: Any, wanted: str) -> DetectorError:
    """The error for a model file of another kind than was asked for."""

    def rows(tensors: Any) -> str:
        return ", ".join(f"{t.name} {t.type} {[d if isinstance(d, int) else '?' for d in t.shape]}" for t in tensors)

    got = f"inputs {rows(session.get_inputs())}; outputs {rows(session.get_outputs())}"
    return DetectorError(
        f"{path} is another kind of model: expected {wanted}; got {got}",
        hint="name an RTMPose file (two SimCC outputs) as --detector, a person detector as --set detect.finder=FILE",
    )
