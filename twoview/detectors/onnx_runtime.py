"""ONNX Runtime sessions: one thread each, on the device that was asked for, and errors for files that do not fit.

A file of a model is data, and may come from a stranger: a pipe or a device is refused, and so is a size that no
detector has; whatever the runtime cannot do with a file is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy import ndarray as Array

from twoview.errors import DetectorError
from twoview.machine import ONNX_PROVIDERS, onnx_device, onnx_runtime
from twoview.storage.regular import regular_file

MOST_BYTES = 2 << 30  # of a file, as its format allows
MOST_SIDE = 4096  # of any fixed side of an input or output: pixels, joints, bins
_MANY = 1 << 20  # rows of answers: a finder has one for each cell of its picture


class Network:
    """An InferenceSession whose errors are DetectorErrors that name its file."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session, self._path = session, path
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def run(self, outputs: list[str] | None, feed: Mapping[str, Array]) -> list[Any]:
        """What the network answers. Raises DetectorError where the runtime cannot run it."""
        try:
            found: list[Any] = self._session.run(outputs, feed)
        except Exception as error:  # the runtime's own exceptions share no public base
            raise DetectorError(
                f"{self._path} cannot be run: {_first_line(error)}",
                hint="is it a detector of the kind that was asked for?",
            ) from error
        return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def open_session(path: Path, *, device: str = "auto") -> Network:
    """A network on the device asked for. Raises DetectorError for a damaged or absurd file or a missing device."""
    size = regular_file(path, DetectorError).stat().st_size
    if not 0 < size <= MOST_BYTES:
        raise DetectorError(f"{path} has {size / 1e6:.0f} MB; expected an ONNX model of at most 2 GiB")
    onnxruntime, device = onnx_runtime(), onnx_device(device)
    options = onnxruntime.SessionOptions()
    # Frames are spread over cores instead. Waiting threads would take the cores' time from the decoder if they spun.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory kept between calls would be each thread's maximum: 10 MiB more for RTMPose-s, for 6 % less time.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    options.enable_mem_pattern = device != "directml"  # which it cannot use
    providers = [ONNX_PROVIDERS[device]]
    try:
        again = 0 if device == "cpu" else 1  # a second try on the processor, which would be announced on the terminal
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=again)
        _ = [(one.name, one.type) for one in (*session.get_inputs(), *session.get_outputs())]  # which may be no text
    except Exception as error:  # the runtime's own exceptions share no public base
        raise DetectorError(
            f"{path} cannot be read as an ONNX model: {_first_line(error)}",
            hint="download it again, or check that it is an .onnx file",
        ) from error
    if session.get_providers()[0] != providers[0]:  # the runtime falls back to the CPU silently
        raise DetectorError(
            f"device {device} was asked for, but ONNX Runtime loaded {session.get_providers()[0]}",
            hint="--device cpu; for cuda, check the CUDA and cuDNN versions that onnxruntime-gpu needs",
        )
    network = Network(session, path)
    for tensors, most in ((session.get_inputs(), MOST_SIDE), (session.get_outputs(), _MANY)):
        if any(isinstance(side, int) and not 0 < side <= most for tensor in tensors for side in tensor.shape):
            raise misfit(path, network, f"sides from 1 to {most}")
    return network


def misfit(path: Path, session: Any, wanted: str) -> DetectorError:
    """The error for a model file of another kind than was asked for."""

    def rows(tensors: Any) -> str:
        return ", ".join(f"{t.name} {t.type} {[d if isinstance(d, int) else '?' for d in t.shape]}" for t in tensors)

    got = f"inputs {rows(session.get_inputs())}; outputs {rows(session.get_outputs())}"
    return DetectorError(
        f"{path} is another kind of model: expected {wanted}; got {got[:400]}",
        hint="name an RTMPose file (two SimCC outputs) as --detector, a person detector as --set detect.finder=FILE",
    )
