"""Files on disk: every artifact names its format, version, inputs and settings, and is written whole or not at all.

Arrays are `.npz` whose first entry is a JSON header; everything else that the tool writes is JSON. A stage is up to
date when the header's inputs and settings equal what it would write now; no timestamps are compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError, StorageError
from twoview.poses import Poses2D, Poses3D, Source
from twoview.skeleton import skeleton
from twoview.timeline import ClockMap, ClockQuality, Sync

Header = dict[str, Any]
T = TypeVar("T")

VERSION = 1  # of every format below; a reader for an older one stays in _READERS
_MIB = 1 << 20


def fingerprint(path: Path | str) -> str:
    """Size and hash of the first and last MiB of a file: quick for a video of 4 GB, the same wherever it lies."""
    path = Path(path)
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
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space or choose another folder; what was already saved is kept",
        ) from error
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


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
    """Header and arrays of an artifact. Raises FormatError if it is missing, truncated or not one of ours."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        head = json.loads(str(arrays.pop("header")))
    except FileNotFoundError as error:
        raise FormatError(f"no such file: {path}", hint="run the earlier stage, or check the path") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} is truncated or not a twoview file ({type(error).__name__})",
            hint="delete it and run the stage that makes it again",
        ) from error
    return checked(head, path), arrays


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Strict JSON, which has no NaN and no infinity: both become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object as `json_text`, atomically. Artefacts start with `header(...)`."""
    with atomic(path) as temporary:
        temporary.write_text(json_text(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Header:
    """Read a JSON artifact. Raises FormatError if it is missing, damaged or not one of ours."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(f"no such file: {path}", hint="run the earlier stage, or check the path") from error
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{path} is damaged or not JSON: {error}", hint="delete it and run its stage again"
        ) from error
    return checked(content, path)


def read_header(path: Path | str) -> Header:
    """The header alone, without loading the arrays."""
    path = Path(path)
    if path.suffix != ".npz":
        return read_json(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["header"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"{path} is missing, truncated or not a twoview file", hint="run its stage again") from error
    return checked(head, path)


def checked(head: Any, path: Path) -> Header:
    """A header that names its format, and a version that this one reads; FormatError for any other."""
    if not isinstance(head, dict) or "format" not in head or "version" not in head:
        raise FormatError(f"{path} is not a twoview file: it names no format and version")
    if head["version"] > VERSION:
        raise FormatError(
            f"{path} was made by {head.get('made_by', 'a newer twoview')}: version {head['version']} of "
            f"{head['format']!r}, and this one reads up to {VERSION}",
            hint="upgrade with `pip install --upgrade twoview`",
        )
    return head


# --- artifacts -----------------------------------------------------------------------------------------------------


def save(
    path: Path | str,
    value: Poses2D | Poses3D | Sync,
    *,
    inputs: Any = None,
    settings: Any = None,
    sigma: Array | None = None,
) -> None:
    """Write poses or a sync with a header that names its inputs and settings.

    sigma  (T, J) of the joints of a Poses3D, in its unit, for those who read the file; `load` leaves it there
    """
    if isinstance(value, Poses2D):
        more = {"skeleton": value.skeleton.name, "size": value.size, "view": value.view, "source": asdict(value.source)}
        head = header("poses2d", inputs=inputs, settings=settings, **more)
        write_npz(path, head, {"xy": value.xy, "score": value.score, "time": value.time})
    elif isinstance(value, Poses3D):
        more = {key: getattr(value, key) for key in ("origin", "unit", "view")}
        more |= {"skeleton": value.skeleton.name, "source": asdict(value.source)}
        head = header("poses3d", inputs=inputs, settings=settings, **more)
        known = {} if sigma is None else {"sigma": sigma.astype(np.float32)}
        known |= {} if value.adapted_share is None else {"adapted_share": value.adapted_share}
        write_npz(path, head, {"xyz": value.xyz, "time": value.time, **known})
    elif isinstance(value, Sync):
        write_json(path, {**header("sync", inputs=inputs, settings=settings), **sync_to_json(value)})
    else:
        raise TypeError(f"cannot save a {type(value).__name__}")


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
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {error}", hint="delete it and run its stage again") from error


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
            quality = {**asdict(sync.quality[view]), "error_s": sync.quality[view].error_s}
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
        clocks[view] = ClockMap(float(row["offset_s"]), float(row["rate"]))
        if "confidence" in row:
            names = [name for name in ClockQuality.__dataclass_fields__ if name in row and name != "windows"]
            numbers = {name: float("nan") if row[name] is None else float(row[name]) for name in names}
            used, total = row.get("windows", (0, 0))
            quality[view] = ClockQuality(**numbers, windows=(int(used), int(total)))
    loop = content.get("loop_s")
    warnings = tuple(content.get("warnings", ()))
    return Sync(
        content["reference"], clocks, content["method"], quality, warnings, float("nan") if loop is None else loop
    )


def _poses2d(head: Header, arrays: dict[str, Array]) -> Poses2D:
    width, height = head["size"]
    more = {"view": head["view"], "source": Source(**head["source"])}
    return Poses2D(arrays["xy"], arrays["score"], arrays["time"], skeleton(head["skeleton"]), (width, height), **more)


def _poses3d(head: Header, arrays: dict[str, Array]) -> Poses3D:
    more = {key: head[key] for key in ("origin", "unit", "view")} | {"source": Source(**head["source"])}
    return Poses3D(
        arrays["xyz"], arrays["time"], skeleton(head["skeleton"]), **more, adapted_share=arrays.get("adapted_share")
    )


_READERS: dict[tuple[str, int], Callable[[Header, dict[str, Array]], Poses2D | Poses3D | Sync]] = {
    ("poses2d", 1): _poses2d,
    ("poses3d", 1): _poses3d,
    ("sync", 1): lambda head, _: sync_from_json(head),
}
