"""PyTorch files read and written: tensors and plain values only. No code in a file is ever run."""

from __future__ import annotations

import collections
import io
import math
import mmap
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twoview.errors import FormatError, TwoViewError
from twoview.storage import pickles, records
from twoview.storage.regular import regular_file


def read(path: Path | str, error: type[TwoViewError] = FormatError) -> dict[str, Any]:
    """The dict in a PyTorch file, tensors on the CPU.

    Raises `error` for a file that holds code, is truncated, is of another kind, holds anything but a dict, or claims
    more than its own size: that is found out before any memory is taken.
    """
    path = regular_file(path, error)
    try:
        _check_claims(path)
        with plain_types(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _ClaimError as reason:
        raise error(
            f"{path} is damaged or made to do harm: {reason}", hint="download or copy it again from where it was made"
        ) from reason
    except pickle.UnpicklingError as reason:
        raise _refusal(path, str(reason), error) from reason
    except Exception as reason:  # damaged files make torch raise errors of many types
        raise _refusal(path, "", error) from reason
    if not isinstance(content, dict):
        raise error(
            f"{path} holds a {type(content).__name__}; expected a dict of weights",
            hint="save the weights where the network is: torch.save({'model': net.state_dict()}, ...)",
        )
    return content


def write(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values, atomically. Raises StorageError when the disk is full."""
    with records.atomic(path) as temporary:
        try:
            torch.save(dict(content), temporary)
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(f"the weights could not be written: {str(error).splitlines()[0]}") from error


class _Ignored:
    """Stands for the log objects in mmengine's checkpoints, so that their code is neither needed nor run."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Keep nothing."""


def plain_types() -> AbstractContextManager[None]:
    """Inside this context `torch.load(weights_only=True)` also reads what mmpose's checkpoints hold beside tensors.

    That is numpy arrays, under their old and their new names; mmengine's log objects are skipped.
    """
    from numpy._core.multiarray import _reconstruct, scalar

    named = [
        (function, f"{module}.multiarray.{function.__name__}")
        for module in ("numpy.core", "numpy._core")
        for function in (_reconstruct, scalar)
    ]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.int32, np.bool_, np.uint8)]
    ignored = [(_Ignored, name) for name in ("mmengine.logging.history_buffer.HistoryBuffer", "builtins.getattr")]
    return torch.serialization.safe_globals([np.ndarray, np.dtype, *named, *kinds, *ignored])


# --- what a file claims ----------------------------------------------------------------------------------------------


class _ClaimError(Exception):
    """A file claims more than it holds, or what no file of weights holds."""


def _check_claims(path: Path) -> None:
    """Raise _ClaimError for a file whose content would need more memory than its own size, ValueError for no such file.

    Torch takes the memory that a file asks for. So the file is first read without making any.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            _check_old_layout(file)
            return
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in entries):
                raise _ClaimError("it is compressed, as torch.save never does")
            if sum(one.file_size for one in entries) > path.stat().st_size:
                raise _ClaimError("its parts are larger than the whole")
            sizes = {one.filename: one.file_size for one in entries}
            (inside,) = (name for name in sizes if name.endswith("data.pkl") and name.count("/") == 1)
            data, folder = archive.read(inside), inside.removesuffix("data.pkl")
    pickles.end_of(data)
    for key, claimed in _storages(data).items():
        if claimed > sizes.get(f"{folder}data/{key}", 0):
            raise _ClaimError(f"its storage {key[:50]} claims {claimed:.3g} bytes, which are not there")


def _check_old_layout(file: Any) -> None:
    """The same for the layout before PyTorch 1.6: a magic number, two pickles, the content, then the storages."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        ends = [0]
        for number in range(4):
            ends.append(pickles.end_of(data, ends[-1]))
            if number == 0 and _outlined(data[: ends[1]])[0] != torch.serialization.MAGIC_NUMBER:
                raise ValueError("not a file of torch.save")
        claimed = sum(_storages(data[ends[3] : ends[4]]).values())
        if claimed > len(data) - ends[4]:
            raise _ClaimError(f"its storages claim {claimed:.3g} bytes, which are not there")


_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16, "UntypedStorage": 1,
}  # fmt: skip


class _Inert:
    """Stands for whatever a pickle wants to make, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, *_: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass

    def __hash__(self) -> int:
        return 0


class _Storage(_Inert):
    def __init__(self, numel: int, width: int) -> None:
        self.numel, self.width = numel, width


def _storages(data: bytes) -> dict[str, int]:
    """Bytes that each storage in a pickle of torch claims, by its key. Raises _ClaimError for larger tensors."""
    return _outlined(data)[1]


def _outlined(data: bytes) -> tuple[Any, dict[str, int]]:
    """The content of a pickle with stand-ins for all objects, and what its storages claim."""
    reader = _Outline(io.BytesIO(data))
    try:
        content = reader.load()
    except (MemoryError, RecursionError) as reason:
        raise _ClaimError("it is nested too deep") from reason
    return content, reader.storages


class _Outline(pickle.Unpickler):
    """Reads a pickle of torch without making tensors, arrays or any object that the file names."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        made: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor"): _check_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): _check_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("builtins", "bytearray"): _refuse_number,
            ("__builtin__", "bytearray"): _refuse_number,
        }
        if (module, name) in made:
            return made[module, name]
        if module == "torch._utils" or module.startswith("torch._tensor"):
            raise _ClaimError(f"it holds a tensor of an unknown kind, {name[:50]}")
        if (module, name) in (("numpy", "ndarray"), ("numpy", "empty"), ("numpy", "zeros")):
            return _Forbidden(name)
        if module.startswith("numpy") and name == "_reconstruct":
            return _check_array
        return type("Named", (_Inert,), {"name": name})

    def persistent_load(self, pid: Any) -> _Storage:
        try:
            _, kind, key, _, numel, *_ = pid
            width = _BYTES[kind.name]
        except (TypeError, ValueError, KeyError, AttributeError) as reason:
            raise _ClaimError("it holds a storage of an unknown kind") from reason
        if not isinstance(numel, int) or numel < 0:
            raise _ClaimError(f"it holds a storage of {numel!r} numbers"[:200])
        self.storages[str(key)] = max(self.storages.get(str(key), 0), numel * width)
        return _Storage(numel, width)


class _Forbidden(_Inert):
    """A maker of arrays, which a pickle names and never calls by itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object, **__: object) -> _Inert:
        raise _ClaimError(f"it makes an array by {self.name}")


def _refuse_number(*values: object) -> _Inert:
    if any(isinstance(value, int) for value in values):
        raise _ClaimError("it holds bytes that are not there")
    return _Inert()


def _check_array(_: object, shape: Any, *__: object) -> _Inert:
    if not isinstance(shape, tuple) or shape not in ((0,), ()):
        raise _ClaimError("it makes an array that is not there")
    return _Inert()


def _check_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> _Inert:
    """Raise _ClaimError for a tensor that reaches beyond its storage, or has more numbers than it."""
    numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (-1,)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise _ClaimError("it holds a tensor without a size")
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False)) + 1
    if len(size) != len(stride) or (0 not in size and max(reach, math.prod(size)) > storage.numel):
        raise _ClaimError(f"a tensor {size!r} is larger than its storage"[:200])
    return _Inert()


def _unreadable(path: Path, error: type[TwoViewError]) -> TwoViewError:
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "gone"
    return error(
        f"{path} ({size}) is truncated or not a PyTorch file",
        hint="download or copy it again, and compare its size with the original's",
    )


def _refusal(path: Path, reason: str, error: type[TwoViewError]) -> TwoViewError:
    """Torch has one error for objects that are neither tensors nor plain values, and for files that are no pickle."""
    culprit = re.search(r"(?:GLOBAL|global:?|class) ([\w.]+\.[\w.]+)", reason)
    if culprit is not None:
        what = f"holds {culprit[1]} beside its weights"
    elif _start(path) in (b"\x80\x04", b"\x80\x05"):
        what = "is a pickle that torch.save did not write"
    else:
        return _unreadable(path, error)
    return error(
        f"{path} {what}, which could run code when read: refused",
        hint="if you trust it, save only its weights, where it was made: torch.save({'model': net.state_dict()}, ...)",
    )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)
