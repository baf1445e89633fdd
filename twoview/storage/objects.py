"""Arrays and pickles of other programs, read without running code.

Only numpy arrays, numbers, texts and containers come out; what a file claims is checked before memory is taken.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy import ndarray as Array
from numpy.lib import format as npy

from twoview.errors import FormatError
from twoview.storage import pickles
from twoview.storage.regular import regular_file

MOST_BYTES = 4 << 30  # that the arrays of one file may take
# What damaged files make readers raise.
DAMAGE = (
    OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError,
    RecursionError, ArithmeticError, ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration,
    RuntimeError, ImportError, SystemError,
)  # fmt: skip
_HINT = "download it again, and compare its size with the original's"


def read_array(path: Path | str) -> Array:
    """The array of numbers in a `.npy`. Raises FormatError for a damaged one."""
    path = regular_file(path)
    try:
        with path.open("rb") as file:
            found: Array = _array(file, path.stat().st_size)
            return found
    except DAMAGE as error:
        raise FormatError(f"{path} cannot be read as an array: {error}"[:400], hint=_HINT) from error


def read_arrays(path: Path | str) -> dict[str, Array]:
    """The arrays of numbers in a `.npz`, by name. Raises FormatError for a damaged file, and for one with objects."""
    found = read_objects(path)
    if any(not isinstance(value, np.ndarray) or value.dtype.hasobject for value in found.values()):
        raise FormatError(f"{path} holds objects beside its arrays")
    return dict(found)


def texts(values: Any) -> Array:
    """An array of texts. Raises ValueError for characters that there are not, which bytes of any kind may stand for."""
    found = np.asarray(values)
    found = np.ascontiguousarray(found if found.dtype.kind == "U" else found.astype(str))
    if found.size and found.itemsize and found.reshape(-1).view(found.dtype.byteorder + "u4").max() > sys.maxunicode:
        raise ValueError("it holds texts of characters that there are not")
    return found


def read_pickle(path: Path | str) -> Any:
    """The content of a pickle file. Raises FormatError for a missing or damaged one, or one that could run code."""
    path = regular_file(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pickles.end_of(data)
            return _Reader(file, encoding="latin1").load()
    except DAMAGE as error:
        raise FormatError(f"{path} cannot be read as a pickled data set: {error}"[:400], hint=_HINT) from error


def pickled_texts(data: bytes) -> Any:
    """The lists of texts and numbers that a short pickle inside another file holds.

    Raises FormatError for a damaged one, or one that could run code.
    """
    try:
        pickles.end_of(data)
        return _Reader(io.BytesIO(data), encoding="latin1").load()
    except DAMAGE as error:
        raise FormatError(f"a list of names cannot be read: {error}"[:400]) from error


def read_objects(path: Path | str) -> Mapping[str, Any]:
    """Arrays of an `.npz`, those of Python objects included, by name. Raises FormatError as `read_pickle` does."""
    path = regular_file(path)
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"it unpacks to {size / 2**30:.1f} GiB; at most {MOST_BYTES >> 30}")
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    found[entry.filename.removesuffix(".npy")] = _array(file, entry.file_size)
    except DAMAGE as error:
        raise FormatError(f"{path} cannot be read as a data set of arrays: {error}"[:400], hint=_HINT) from error
    return found


def _array(file: IO[bytes], size: int) -> Any:
    """An array, or the objects, in a `.npy` of this many bytes; its header is looked at before memory is taken."""
    version = npy.read_magic(file)
    shape, fortran, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    if dtype.hasobject:
        content = file.read()
        pickles.end_of(content)
        return _Reader(io.BytesIO(content), encoding="latin1").load()
    wanted, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted != there or wanted > MOST_BYTES:
        raise ValueError(f"an array {shape} takes {wanted:.4g} bytes, and {there} are there"[:200])
    values = np.frombuffer(bytearray(file.read(wanted)), dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


class _Kind:
    """Stands for the class of arrays: a pickle names it, and must not make one by itself, of any size."""


def _empty(kind: Any, shape: Any, _: Any) -> Array:
    """The empty array that pickles make before they fill it."""
    if kind is not _Kind or shape not in ((0,), ()):
        raise pickle.UnpicklingError("it makes an array that is not there")
    return np.ndarray((0,), "b")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> Array:
    """An array of protocol 5. Raises ValueError for another shape than its bytes have."""
    if axis_order is not None:
        return np.frombuffer(buffer, dtype).reshape(shape, order="F").transpose(axis_order)
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _encoded(text: Any, codec: Any = "utf-8") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise pickle.UnpicklingError("it encodes what is no text")
    return text.encode(codec)


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_MADE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encoded,
    **{(module, "_reconstruct"): _empty for module in _NUMPY},
    **{(module, "scalar"): np._core.multiarray.scalar for module in _NUMPY},  # type: ignore[attr-defined]
    **{(module, "_frombuffer"): _from_buffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
}
_PLAIN = (
    ("collections", "OrderedDict"), ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"),
    ("pathlib", "PureWindowsPath"),
)  # fmt: skip


class _Reader(pickle.Unpickler):
    """Makes arrays, numbers, texts and containers, and refuses to make anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _MADE:
            return _MADE[module, name]
        if (module, name) == ("pathlib", "WindowsPath"):
            name = "PureWindowsPath"
        if (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which could run code")
        return super().find_class(module, name)
