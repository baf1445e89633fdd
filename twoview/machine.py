"""What the machine gives a process: cores, memory that is kept or given back, and devices that networks run on."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from twoview.errors import DetectorError, TwoViewError

if TYPE_CHECKING:
    import torch

_LARGE = 1 << 17  # bytes from which a block is the system's own, and returns to it when freed
_LARGEST = 1 << 25  # the most that every C library of Linux takes for that
_KEPT = 1 << 30  # bytes that may lie idle between one step and the next
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of the C library's malloc.h

ONNX_PROVIDERS = {  # by device; Apple's graphics are "mps" to PyTorch, whose name is used for both
    "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}  # fmt: skip
_ONNX_PACKAGES = {"cuda": "onnxruntime-gpu", "directml": "onnxruntime-directml"}


_share = 0  # cores that this process shall use, one of several that work at once; 0: all


def cores() -> int:
    """Processor cores that this process may use."""
    every = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_share or every, every)


def use_cores(count: int) -> None:
    """Have this process use so many cores; called before the packages are loaded that start a thread for each core."""
    global _share
    _share = count
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if not os.environ.get(name, "").isdigit() or int(os.environ[name]) > count:
            os.environ[name] = str(count)


def keep_memory_low() -> None:
    """Give freed pictures back at once; the C library of Linux would keep dozens of them, some for every thread."""
    if libc := _c_library():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.malloc_trim(0)


def keep_memory() -> None:
    """Keep freed tensors' memory for the next: fetching it anew for each costs networks up to a third of their time."""
    if libc := _c_library():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def torch_device(device: str, error: type[TwoViewError]) -> torch.device:
    """The PyTorch device of that name, never another one; "auto" is cuda where there is one, else cpu.

    device  auto, cpu, cuda, or any name that PyTorch knows (cuda:1, mps)
    Raises `error` where this machine has no such device.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if has_cuda else "cpu")
    if device == "cuda" and not has_cuda:
        raise error(
            "device cuda was asked for, and this PyTorch sees no CUDA device",
            hint="install a CUDA build of torch (pytorch.org), or use --device cpu",
        )
    if device == "cuda":  # named without a try, which would start CUDA before processes are launched
        return torch.device(device)
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as reason:
        raise error(
            f"no device {device!r} here: {str(reason).splitlines()[0]}", hint="--device cpu, or auto"
        ) from reason


def precision_of(asked: str, device: str, lifter: str) -> str:
    """fp32, bf16 or fp16: the one asked for, or for "auto" the faster to train a lifter of this name on the device.

    bf16 speeds "tcn" up and small transformers down; on processors without 16-bit products it is many times slower.
    """
    import torch

    if asked != "auto":
        return asked
    graphics = device != "cpu" and torch.cuda.is_available()
    able = torch.cuda.is_bf16_supported() if graphics else getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return "bf16" if able and lifter == "tcn" else "fp32"


def torch_has_cuda() -> bool:
    """Whether PyTorch has a CUDA device, asked only where it is likely, since importing torch takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def detects_in_torch(device: str) -> bool:
    """Whether a detector named in the table of weights runs in PyTorch: on a GPU that ONNX Runtime cannot use."""
    return device in ("auto", "cuda") and not _onnx_has("cuda") and torch_has_cuda()


def onnx_device(device: str) -> str:
    """The device that ONNX Runtime runs on, of ONNX_PROVIDERS; "auto" is cuda where its runtime has CUDA, else cpu.

    Raises DetectorError for another name, and for a device that the runtime has no provider for.
    """
    if device == "auto":
        return "cuda" if _onnx_has("cuda") else "cpu"
    if device not in ONNX_PROVIDERS:
        known = ", ".join(("auto", *ONNX_PROVIDERS))
        raise DetectorError(f"unknown device {device!r}; known: {known}", hint="--device cpu, or auto")
    if not _onnx_has(device):
        package = _ONNX_PACKAGES.get(device)
        remedy = f"pip uninstall onnxruntime; pip install {package}   or: " if package else ""
        raise DetectorError(
            f"device {device} was asked for, and this ONNX Runtime has no {ONNX_PROVIDERS[device]}",
            hint=f"{remedy}--device cpu",
        )
    return device


def _onnx_has(device: str) -> bool:
    return ONNX_PROVIDERS[device] in onnx_runtime().get_available_providers()


def onnx_runtime() -> Any:
    """ONNX Runtime's module, which is imported nowhere else: it would send telemetry to its makers.

    It reads the variable when it is loaded, and so do the processes that this one starts; its function
    `disable_telemetry_events` comes too late.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def _c_library() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
