"""Detections in HDF5: which tool wrote a file, and DeepLabCut's tables, which pandas stores in two ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.detection.file_content import RIGHT_FILE
from twoview.errors import FormatError, MissingBackend
from twoview.storage.objects import MOST_BYTES, pickled_texts

HDF5 = (".h5", ".hdf5")
_CSV = "DeepLabCut writes the same as .csv: save_as_csv=True, or analyze_videos_converth5_to_csv"
_LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: ("scorer", "individuals", "bodyparts", "coords")}


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """An open file. Raises MissingBackend without h5py, FormatError for a damaged file."""
    try:
        import h5py
    except ImportError as error:
        raise MissingBackend(
            f"{path} is in HDF5, which needs the package h5py",
            hint='pip install "twoview[hdf5]", or let SLEAP or DeepLabCut write .csv',
        ) from error
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise FormatError(f"{path} cannot be read as HDF5: {error}"[:300], hint=RIGHT_FILE) from error


def recognize_hdf5(path: Path) -> str:
    """The tool: deeplabcut for a table of pandas, else sleap, whose reader says what is missing."""
    with opened_hdf5(path) as file:
        return "deeplabcut" if _table_of(file) is not None else "sleap"


def _table_of(file: Any) -> Any:
    """The one table of pandas in a file; None where there is none."""
    return next((group for group in file.values() if "pandas_type" in group.attrs), None)


def numbers_of(stored: Any) -> Array:
    """A stored array as float64. Raises FormatError for one that is larger than files of detections are."""
    if stored.size * 8 > MOST_BYTES:
        raise FormatError(f"{stored.name} says that it has {stored.size:,} numbers", hint=RIGHT_FILE)
    return np.asarray(stored, float)


def texts_of(stored: Any) -> list[str]:
    """A stored array of names."""
    if stored.size * 8 > MOST_BYTES:
        raise FormatError(f"{stored.name} says that it has {stored.size:,} names", hint=RIGHT_FILE)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.asarray(stored).reshape(-1)]


def read_deeplabcut_table(path: Path) -> list[list[str]]:
    """The cells of DeepLabCut's table as its .csv has them: heading rows, then the frame and the values of each row."""
    with opened_hdf5(path) as file:
        group = _table_of(file)
        if group is None:
            raise FormatError(f"{path} has no table of DeepLabCut", hint=_CSV)
        columns, places, values = _appendable(group) if "table" in group else _fixed(group, path)
    if len(columns) != values.shape[1] or not columns or len(columns[0]) not in _LEVELS:
        raise FormatError(f"{path} has a table whose columns are not DeepLabCut's", hint=_CSV)
    heads = [[name, *level] for name, level in zip(_LEVELS[len(columns[0])], zip(*columns, strict=True), strict=True)]
    return heads + [[place, *map(str, row)] for place, row in zip(places, values.tolist(), strict=True)]


def _appendable(group: Any) -> tuple[list[tuple[str, ...]], list[str], Array]:
    """Columns, frames and values of what analyze_videos writes; the columns are a pickled list of texts."""
    table = group["table"]
    if table.size * table.dtype.itemsize > MOST_BYTES:
        raise FormatError(f"{table.name} says that it has {table.size:,} rows", hint=RIGHT_FILE)
    rows = np.asarray(table)
    ((_, columns),) = pickled_texts(bytes(group.attrs["non_index_axes"]))
    return [tuple(map(str, one)) for one in columns], [str(frame) for frame in rows["index"]], rows["values_block_0"]


def _fixed(group: Any, path: Path) -> tuple[list[tuple[str, ...]], list[str], Array]:
    """Columns, frames or pictures, and values of what labeling writes."""
    if int(group.attrs.get("nblocks", 1)) != 1:
        raise FormatError(f"{path} has a table of several kinds of numbers", hint=_CSV)
    columns = list(zip(*_levels(group, "axis0"), strict=True))
    places = _levels(group, "axis1")[-1] if "axis1_level0" in group else texts_of(group["axis1"])
    return columns, places, numbers_of(group["block0_values"])


def _levels(group: Any, axis: str) -> list[list[str]]:
    """The names of each level of an axis, one for each row or column."""
    levels = []
    for number in range(int(group.attrs[f"{axis}_nlevels"])):
        names = texts_of(group[f"{axis}_level{number}"])
        levels.append([names[place] for place in numbers_of(group[f"{axis}_label{number}"]).astype(int)])
    return levels
