"""Pickled data sets, read without running what they say: only numpy arrays, numbers, texts and containers come out."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from twoview.errors import FormatError

_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "WindowsPath"), ("pathlib", "PureWindowsPath"),
    *((module, name) for module in ("numpy.core.multiarray", "numpy._core.multiarray")
      for name in ("_reconstruct", "scalar")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
}  # fmt: skip
_HINT = "download it again, and compare its size with the original's"


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which could run code")
        if name == "WindowsPath":
            return super().find_class("pathlib", "PureWindowsPath")
        if module.startswith("numpy.core."):  # where numpy 1 kept it
            module = module.replace("numpy.core.", "numpy._core.")
        return super().find_class(module, name)


def read_pickle(path: Path | str) -> Any:
    """The content of a pickle file. Raises FormatError for a missing or damaged one, or one that names more."""
    try:
        with Path(path).open("rb") as file:
            return _load(file)
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise FormatError(f"{path} cannot be read as a pickled data set: {error}", hint=_HINT) from error


def read_objects(path: Path | str) -> Mapping[str, Any]:
    """Arrays of an `.npz`, those of Python objects included, by name. Raises FormatError as `read_pickle` does."""
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                found[name.removesuffix(".npy")] = _array(archive.read(name))
    except (OSError, zipfile.BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise FormatError(f"{path} cannot be read as a data set of arrays: {error}", hint=_HINT) from error
    return found


def _array(content: bytes) -> Any:
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    _, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    if dtype.hasobject:
        return _load(file)
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _load(file: Any) -> Any:
    return _Reader(file, encoding="latin1").load()
