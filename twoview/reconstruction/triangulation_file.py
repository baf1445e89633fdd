"""The file of a triangulation: everything that was found out about a take, to go on from without solving again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError
from twoview.reconstruction.solved_cameras import cameras_from_json, cameras_json
from twoview.reconstruction.triangulation import Triangulation
from twoview.storage import records

FORMAT = "triangulation"
_PER_VIEW = ("focal_px", "angle_deg", "turned_deg", "delay_s", "residual", "lifter_mm")  # numbers; NaN is null
_STACKED = ("view_time", "points", "swapped")  # arrays by view, one after the other
_PLAIN = ("time", "sigma", "random_sigma", "reliable", "bones_m")


def save_triangulation(path: Path | str, found: Triangulation, head: records.Header, *, height_m: float) -> None:
    """Write a triangulation. `head` has its inputs and settings; height_m: the athlete's, 0 where it is not known."""
    facts = {
        "take": found.take,
        "unit": found.unit,
        "warnings": list(found.warnings),
        "numbers": {name: dict(getattr(found, name)) for name in _PER_VIEW},
        "cameras": cameras_json(found.cameras, height_m=height_m),
    }
    arrays = {name: getattr(found, name) for name in _PLAIN}
    arrays |= {name: np.stack(list(getattr(found, name).values())) for name in _STACKED}
    records.write_npz(path, {**head, **facts}, arrays)


def load_triangulation(path: Path | str) -> Triangulation:
    """Read a triangulation. Raises FormatError for anything else, and for a damaged file."""
    head, arrays = records.read_npz(path)
    if head["format"] != FORMAT:
        raise FormatError(f"{path} holds {head['format']!r}, and a {FORMAT} was expected")
    try:
        return _triangulation(head, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FormatError(f"{path} is damaged: {what}", hint="twoview triangulate") from error


def _triangulation(head: records.Header, arrays: Mapping[str, Array]) -> Triangulation:
    cameras = cameras_from_json(head["cameras"])
    views, moments, joints = len(cameras), len(arrays["time"]), arrays["sigma"].shape[1]
    shapes = {
        "time": (moments,), "sigma": (moments, joints), "random_sigma": (moments, joints), "reliable": (moments,),
        "bones_m": (joints - 1,),
        "view_time": (views, moments), "points": (views, moments, joints, 3), "swapped": (views, moments, 2),
    }  # fmt: skip
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fb":
            raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape} and not {shape}")
    for clock in (arrays["time"], *arrays["view_time"]):
        if not np.isfinite(clock).all() or (np.diff(clock) <= 0).any():
            raise ValueError("its times are not increasing seconds")
    stacked: dict[str, Any] = {name: dict(zip(cameras, arrays[name], strict=True)) for name in _STACKED}
    numbers: dict[str, Any] = {}
    for name in _PER_VIEW:
        row = head["numbers"][name]
        numbers[name] = {view: float("nan") if row[view] is None else float(row[view]) for view in cameras}
    plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
    return Triangulation(
        take=str(head["take"]), unit="m" if head["unit"] == "m" else "screen", cameras=cameras,
        size={view: camera.size for view, camera in cameras.items()}, warnings=tuple(map(str, head["warnings"])),
        **plain, **stacked, **numbers,
    )  # fmt: skip
