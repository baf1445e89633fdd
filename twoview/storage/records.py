"""Files on disk: every artifact names its format, version, inputs and settings, and is written whole or not at all.

Arrays are `.npz` whose first entry is a JSON header; everything else that the tool writes is JSON. A stage is up to
date when the header's inputs and settings equal what it would write now; no timestamps are compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError, StorageError
from twoview.poses import Poses2D, Poses3D, Source, World
from twoview.skeleton import skeleton
from twoview.storage.regular import make_folder, read_text, regular_file, regular_size
from twoview.texts import json_text
from twoview.timeline import ClockMap, ClockQuality, Sync

Header = dict[str, Any]
# What wrong types and values in a file raise where they are used.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, EOFError)
T = TypeVar("T")

VERSION = 1  # of every format below; a reader for an older one stays in _READERS
_MIB = 1 << 20
MOST_BYTES = 4 << 30  # that the arrays of one file may take in memory; ten hours of poses take half of it
MOST_TEXT = 256 * _MIB  # bytes of a JSON file
_MAKE_AGAIN = "is it the right file? A damaged file of a session is made again by its stage"


def fingerprint(path: Path | str) -> str:
    """Size and hash of the first and last MiB of a file: quick for a video of 4 GB, the same wherever it lies."""
    path = regular_file(path, StorageError)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(_MIB))
            file.seek(max(size - _MIB, 0))
            digest.update(file.read(_MIB))
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    return f"{size}-{digest.hexdigest()[:24]}"


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` if the block succeeds and vanishes if it does not.

    Raises StorageError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path
    try:
        with writable(path):
            make_folder(path.parent)
            _clear(path.parent)
            writer = f".{path.stem[:80]}.{_host()}-{os.getpid()}-"
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=writer, suffix=path.suffix)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        if temporary != path:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path | str) -> Iterator[None]:
    """Whatever the system refuses in the block becomes a StorageError about `path`: a full disk, a read-only folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space or choose another folder; what was already saved is kept",
        ) from error


def remove(path: Path | str) -> None:
    """Remove a file if it is there. Raises StorageError where the system refuses."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot remove {path}, which shows what is not so any more: {error.strerror or error}",
            hint="check the permissions of its folder, then run the same command again",
        ) from error


_TEMPORARY = re.compile(r"\..*\.(?P<host>\w*)-(?P<pid>\d+)-\w{8}(\.\w+)?")  # names that `atomic` gives
_ABANDONED_S = 86_400.0  # a temporary file this old has no writer any more, wherever that ran
_cleared: set[Path] = set()  # folders that this process has looked through


def _host() -> str:
    return re.sub(r"\W", "_", platform.node())[:40]


def _clear(folder: Path) -> None:
    """Remove the temporary files in a folder that a killed process left; once per folder and process."""
    if folder in _cleared:
        return
    _cleared.add(folder)
    with os.scandir(folder) as entries:
        left = [(entry, found) for entry in entries if (found := _TEMPORARY.fullmatch(entry.name))]
    for entry, found in left:
        with suppress(OSError):  # its writer has just finished
            old = time.time() - entry.stat().st_mtime > _ABANDONED_S
            if old or (found["host"] == _host() and not _is_running(int(found["pid"]))):
                Path(entry.path).unlink()


def _is_running(process: int) -> bool:
    """Whether a process of this machine lives; on Windows, where asking would end it, True."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def header(format: str, *, inputs: Mapping[str, Any] | None = None, settings: Any = None, **more: Any) -> Header:
    """The first entry of every artifact. `settings` may be a dataclass."""
    from twoview import __version__

    plain = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else dict(settings or {})
    start = {"format": format, "version": VERSION, "made_by": f"twoview {__version__}"}
    head: Header = json.loads(json_text({**start, "inputs": dict(inputs or {}), "settings": plain, **more}))
    return head


def is_current(path: Path | str, wanted: Header) -> bool:
    """Whether the artifact at `path` was made from the same inputs with the same settings as `wanted` says."""
    try:
        found = read_header(path)
    except FormatError:
        return False
    return all(found.get(key) == wanted.get(key) for key in ("format", "version", "inputs", "settings"))


def write_npz(path: Path | str, head: Header, arrays: Mapping[str, Array]) -> None:
    """Write arrays with their header, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, header=np.array(json_text(head)), **arrays)  # type: ignore[arg-type]


def read_npz(path: Path | str) -> tuple[Header, dict[str, Array]]:
    """Header and arrays of an artifact.

    Raises FormatError if it is missing, damaged, not one of ours, or would take more memory than `MOST_BYTES`.
    """
    path = regular_file(path)
    with _npz(path) as file:
        arrays = {name: _array(file, name) for name in _sizes(file)}
        head = parse_json(str(arrays.pop("header")))
    return checked(head, path), arrays


@contextmanager
def _npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive of a .npz file; whatever goes wrong while it is read is a FormatError."""
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError, StopIteration) as error:
        reason = f": {error}" if str(error) else ""
        raise FormatError(
            f"{path} is truncated, damaged or not a twoview file ({type(error).__name__}{reason})", hint=_MAKE_AGAIN
        ) from error


def _sizes(file: zipfile.ZipFile) -> dict[str, int]:
    """Bytes of every array, by its name. Raises ValueError where they are too many, or more than the archive holds."""
    sizes = {}
    for entry in file.infolist():
        with file.open(entry) as data:
            shape, dtype, start = _array_header(data)
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds objects, which could run code when read")
        size = math.prod(shape) * dtype.itemsize
        if size + start != entry.file_size:
            raise ValueError(f"{entry.filename} should have {size} bytes and has {entry.file_size - start}")
        sizes[entry.filename.removesuffix(".npy")] = size
    if sum(sizes.values()) > MOST_BYTES:
        raise ValueError(f"its arrays take {sum(sizes.values()) / 2**30:.1f} GiB; the most read is {MOST_BYTES >> 30}")
    return sizes


def _array_header(data: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and first byte of an array in a .npy file. Raises ValueError for any other file."""
    version = np.lib.format.read_magic(data)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"unknown version {version} of .npy")
    shape, _, dtype = read(data)
    return shape, dtype, data.tell()


def _array(file: zipfile.ZipFile, name: str) -> Array:
    with file.open(f"{name}.npy") as data:
        value: Array = np.lib.format.read_array(data, allow_pickle=False)
    return value


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, too deep nesting included."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object as `json_text`, atomically. Artefacts start with `header(...)`."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Header:
    """Read a JSON artifact. Raises FormatError if it is missing, damaged or not one of ours."""
    return checked(load_json(path), path)


def load_json(path: Path | str, *, most: int = MOST_TEXT) -> Any:
    """The content of any JSON file in UTF-8. Raises FormatError where there is none, or one of over `most` bytes."""
    text = read_text(path, most=most)
    try:
        return parse_json(text)
    except ValueError as error:
        raise FormatError(f"{path} is damaged or not JSON: {error}", hint=_MAKE_AGAIN) from error


def read_header(path: Path | str) -> Header:
    """The header alone, without loading the arrays."""
    if not os.fspath(path).endswith(".npz"):
        return read_json(path)
    size = regular_size(path)
    head = _first_entry(path, size)
    if head is not None:
        return checked(head, path)
    path = Path(path)
    with _npz(path) as file:
        size = file.getinfo("header.npy").file_size
        if size > MOST_TEXT:
            raise ValueError(f"its header has {size} bytes")
        head = parse_json(str(_array(file, "header")))
    return checked(head, path)


_START = 1 << 16  # bytes: all of a short file
_LOCAL, _END = struct.Struct("<4s10xI8xHH"), struct.Struct("<4s8xII2x")  # of a .zip: before an entry, and at the end
_HEADER_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<U([0-9]+)', 'fortran_order': False, 'shape': \(\), \} *\n", re.DOTALL
)


def _first_entry(path: Path | str, size: int) -> Any:
    """The header of a .npz as `write_npz` lays it out, by its first and last bytes; None where `_npz` has to look.

    Several times as fast as opening the archive, which counts where there are thousands.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            start = end = file.read(_START)
            if size > _START:
                file.seek(size - _END.size)
                end = file.read(_END.size)
            magic, crc, name_size, extra_size = _LOCAL.unpack_from(start)
            mark, directory_size, directory = _END.unpack(end[-_END.size :])
            at = _LOCAL.size + name_size + extra_size
            found = _HEADER_NPY.match(start, at)
            first = magic == b"PK\3\4" and start[_LOCAL.size : _LOCAL.size + name_size] == b"header.npy"
            whole = mark == b"PK\5\6" and directory + directory_size + _END.size == size
            if not (first and whole and found):
                return None
            stop = found.end() + 4 * int(found[1])
            entry = start[at:stop]
            if stop > len(start) or zlib.crc32(entry) != crc:
                return None
            return parse_json(entry[found.end() - at :].decode("utf-32-le"))
    except (OSError, ValueError, struct.error):
        return None


def checked(head: Any, path: Path | str) -> Header:
    """A header that names its format, and a version that this one reads; FormatError for any other."""
    known = isinstance(head, dict) and isinstance(head.get("format"), str) and type(head.get("version")) is int
    if not known or head["version"] < 1:
        raise FormatError(f"{path} is not a twoview file: it names no format and version", hint=_MAKE_AGAIN)
    for key in ("inputs", "settings"):
        if not isinstance(head.get(key, {}), dict):
            raise FormatError(f"{path} is damaged: its {key} are no table", hint=_MAKE_AGAIN)
    if head["version"] > VERSION:
        raise FormatError(
            f"{path} was made by {head.get('made_by', 'a newer twoview')}: version {head['version']} of "
            f"{head['format']!r}, and this one reads up to {VERSION}",
            hint="upgrade with `pip install --upgrade twoview`",
        )
    return cast(Header, head)


# --- artifacts -----------------------------------------------------------------------------------------------------


def save(
    path: Path | str,
    value: Poses2D | Poses3D | Sync,
    *,
    inputs: Any = None,
    settings: Any = None,
    arrays: Mapping[str, Array] | None = None,
    athlete: Mapping[str, Any] | None = None,
) -> None:
    """Write poses or a sync with a header that names its inputs and settings.

    arrays   more of a Poses3D by name, such as reliable frames, for those who read the file; `load` leaves them there
    athlete  how the athlete of a Poses2D was chosen among several people, for the header
    """
    if isinstance(value, Poses2D):
        more = {"skeleton": value.skeleton.name, "size": value.size, "view": value.view, "source": asdict(value.source)}
        more |= {} if athlete is None else {"athlete": dict(athlete)}
        head = header("poses2d", inputs=inputs, settings=settings, **more)
        write_npz(path, head, {"xy": value.xy, "score": value.score, "time": value.time})
    elif isinstance(value, Poses3D):
        more = {key: getattr(value, key) for key in ("origin", "unit", "view")}
        more |= {"skeleton": value.skeleton.name, "source": asdict(value.source)}
        more |= {"filter": value.filter} if value.filter else {}
        more |= {"axes": value.axes} if value.axes != "camera" else {}
        more |= {} if value.world is None else {"world": {name: _plain(value.world, name) for name in _WORLD}}
        head = header("poses3d", inputs=inputs, settings=settings, **more)
        known = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in (arrays or {}).items()}
        known |= {} if value.adapted_share is None else {"adapted_share": value.adapted_share}
        known |= {} if value.sigma is None else {"sigma": value.sigma}
        known |= {} if value.world is None else {f"world_{n}": getattr(value.world, n) for n in _WORLD_BY_FRAME}
        write_npz(path, head, {"xyz": value.xyz, "time": value.time, **known})
    elif isinstance(value, Sync):
        write_json(path, {**header("sync", inputs=inputs, settings=settings), **sync_to_json(value)})
    else:
        raise TypeError(f"cannot save a {type(value).__name__}")


_WORLD = ("up", "right", "floor", "up_sigma_deg", "floor_sigma_m", "source")  # in the header
_WORLD_BY_FRAME = ("root", "contact", "root_sigma_m")  # arrays


def _plain(world: World, name: str) -> Any:
    value = getattr(world, name)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _world(head: Header, arrays: Mapping[str, Array]) -> World | None:
    """The world of poses, where their file has one."""
    if "world" not in head:
        return None
    row: dict[str, Any] = {name: head["world"][name] for name in _WORLD}
    row |= {name: float(row[name]) for name in ("up_sigma_deg", "floor_sigma_m")} | {"source": str(row["source"])}
    row |= {name: arrays[f"world_{name}"] for name in _WORLD_BY_FRAME}
    return World(**row)


def is_value(head: Header) -> bool:
    """Whether a file with this header is one that `load` reads."""
    return (head["format"], head["version"]) in _READERS


def load(path: Path | str) -> Poses2D | Poses3D | Sync:
    """Read any artifact that `save` wrote. Raises FormatError for anything else."""
    path = Path(path)
    head, arrays = read_npz(path) if path.suffix == ".npz" else (read_json(path), {})
    reader = _READERS.get((head["format"], head["version"]))
    if reader is None:
        raise FormatError(
            f"{path} holds {head['format']!r} version {head['version']}, which cannot be loaded as poses or sync"
        )
    try:
        return reader(head, arrays)
    except _DAMAGE as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FormatError(f"{path} is damaged: {what}", hint=_MAKE_AGAIN) from error


def load_as(path: Path | str, kind: type[T]) -> T:
    """`load`, checked to be of one type."""
    value = load(path)
    if not isinstance(value, kind):
        raise FormatError(f"{path} holds {type(value).__name__}, and {kind.__name__} was expected")
    return value


def sync_to_json(sync: Sync) -> dict[str, Any]:
    """A sync as a JSON object; NaN becomes null."""
    views: dict[str, dict[str, Any]] = {}
    for view in sync.views:
        clock = sync.clocks[view]
        row: dict[str, Any] = {"offset_s": clock.offset_s, "rate": clock.rate, "drift_ppm": clock.drift_ppm}
        if view in sync.quality:
            known = sync.quality[view]
            quality = {**asdict(known), "error_s": known.error_s, "end_error_s": known.end_error_s}
            row |= {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in quality.items()}
        views[view] = row
    return {
        "convention": "session_time = offset_s + rate * view_time",
        "reference": sync.reference,
        "method": sync.method,
        "views": views,
        "warnings": list(sync.warnings),
        "loop_s": None if np.isnan(sync.loop_s) else sync.loop_s,
    }


def sync_from_json(content: Mapping[str, Any]) -> Sync:
    """The inverse of `sync_to_json`."""
    clocks, quality = {}, {}
    for view, row in content["views"].items():
        clocks[view] = clock = ClockMap(float(row["offset_s"]), float(row["rate"]))
        if not (math.isfinite(clock.offset_s) and 0 < clock.rate < math.inf):
            raise ValueError(f"the clock of view {view!r} has offset {clock.offset_s} s and rate {clock.rate}")
        if "confidence" in row:
            names = [name for name in ClockQuality.__dataclass_fields__ if name in row and name != "windows"]
            numbers = {name: float("nan") if row[name] is None else float(row[name]) for name in names}
            used, total = row.get("windows", (0, 0))
            quality[view] = ClockQuality(**numbers, windows=(int(used), int(total)))
    loop = content.get("loop_s")
    warnings = tuple(map(str, list(content.get("warnings", ()))))
    loop = float("nan") if loop is None else float(loop)
    return Sync(str(content["reference"]), clocks, str(content["method"]), quality, warnings, loop)


def _poses2d(head: Header, arrays: dict[str, Array]) -> Poses2D:
    width, height = head["size"]
    more = {"view": head["view"], "source": Source(**head["source"])}
    return Poses2D(arrays["xy"], arrays["score"], arrays["time"], skeleton(head["skeleton"]), (width, height), **more)


def _poses3d(head: Header, arrays: dict[str, Array]) -> Poses3D:
    more = {key: head[key] for key in ("origin", "unit", "view")} | {"source": Source(**head["source"])}
    return Poses3D(
        arrays["xyz"], arrays["time"], skeleton(head["skeleton"]), **more,
        adapted_share=arrays.get("adapted_share"), filter=str(head.get("filter", "")), world=_world(head, arrays),
        axes=head.get("axes", "camera"), sigma=arrays.get("sigma"),
    )  # fmt: skip


_READERS: dict[tuple[str, int], Callable[[Header, dict[str, Array]], Poses2D | Poses3D | Sync]] = {
    ("poses2d", 1): _poses2d,
    ("poses3d", 1): _poses3d,
    ("sync", 1): lambda head, _: sync_from_json(head),
}
