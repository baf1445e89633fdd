"""Takes of calibrated data sets: what every camera saw, where the joints truly were, and the cameras themselves.

Data sets that come as pickles are read without running code: only numpy arrays, numbers, texts and containers come out.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy import ndarray as Array
from numpy.lib import format as npy

from twoview.errors import FormatError
from twoview.geometry.cameras import Camera
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import H36M17
from twoview.storage import pickles
from twoview.storage.names import stays_inside
from twoview.storage.regular import regular_file
from twoview.timeline import ClockMap, Sync


@dataclass(frozen=True, eq=False)
class Recording:
    """One take of a data set. All views share one clock: row i of every array is the same moment.

    poses       2D of each view in pixels of the upright picture, Human3.6M joints
    truth       3D of each view in the camera's axes, origin "camera"; unit "m" where the data set gives meters
    cameras     of each view, where the data set has them
    videos      file of each view; video_time (T,) s: the moment of the video that each row shows
    truth_mm    (T, 17, 3) of each view, with mm_per_px (T,): the truth of MotionBERT's evaluation on Human3.6M
    """

    name: str
    subject: str
    activity: str
    split: str
    poses: Mapping[str, Poses2D]
    truth: Mapping[str, Poses3D]
    cameras: Mapping[str, Camera[Array]] = field(default_factory=dict)
    videos: Mapping[str, Path] = field(default_factory=dict)
    video_time: Mapping[str, Array] = field(default_factory=dict)
    truth_mm: Mapping[str, Array] = field(default_factory=dict)
    mm_per_px: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not stays_inside(self.name):  # files are named after it
            raise FormatError(f"a take of the data set is called {self.name[:100]!r}, which is no name of a file")

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(self.poses)

    @property
    def sync(self) -> Sync:
        """The clocks of the views: all the same."""
        return Sync(self.views[0], {view: ClockMap() for view in self.views}, method="timestamps")

    def with_detections(self, found: Mapping[str, Poses2D]) -> Recording:
        """The same take with 2D detected in the videos, in any known skeleton, instead of projected truth."""
        rows = {view: found[view].to(H36M17).at(self.video_time[view]) for view in self.views}
        return replace(self, poses={v: replace(row, time=self.poses[v].time, view=v) for v, row in rows.items()})


def seen_by(
    cameras: Mapping[str, Camera[Array]], world: Array, time: Array
) -> tuple[dict[str, Poses2D], dict[str, Poses3D]]:
    """Exact 2D of score 1, and 3D in camera axes, by view, of Human3.6M joints in the world (T, 17, 3) m."""
    poses, truth = {}, {}
    for view, camera in cameras.items():
        points = camera.to_camera(world)
        xy = camera.project(points)
        score = np.isfinite(xy).all(axis=-1)
        poses[view] = Poses2D(np.where(score[..., None], xy, np.nan), score, time, H36M17, camera.size, view)
        truth[view] = Poses3D(points, time, H36M17, "camera", "m", view)
    return poses, truth


# --- files -----------------------------------------------------------------------------------------------------------

MOST_BYTES = 4 << 30  # that the arrays of one file may take
MOST_TEXT = 1 << 30  # bytes of a text file
# What damaged files make readers raise.
DAMAGE = (
    OSError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError,
    RecursionError, ArithmeticError, ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration,
    RuntimeError, ImportError, SystemError,
)  # fmt: skip
_HINT = "download it again, and compare its size with the original's"


def read_text(path: Path | str, encoding: str = "utf-8") -> str:
    """A text file. Raises FormatError for what is no file or is absurdly large, ValueError for another encoding."""
    path = regular_file(path)
    if path.stat().st_size > MOST_TEXT:
        raise FormatError(f"{path} has {path.stat().st_size / 2**30:.1f} GiB of text; at most {MOST_TEXT >> 30}")
    return path.read_text(encoding=encoding)


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
