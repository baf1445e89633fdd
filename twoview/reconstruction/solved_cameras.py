"""The cameras that a triangulation found, for other programs: as JSON, and as calibrations of three other tools.

The world of `cameras.json` is the first view's camera: x right, y down, z away. The other tools take z for up, and so
their files hold the same cameras in a world with x towards the first camera, y right, z up, as that camera is held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from scipy.spatial.transform import Rotation

from twoview.errors import FormatError
from twoview.geometry.cameras import Camera, principal_point
from twoview.storage import records
from twoview.timeline import ClockMap

FORMAT = "cameras"
FROM_Z_UP = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])  # (towards, right, up) to camera axes

CONVENTION = {
    "point": "in a view's camera axes = rotation @ point in the first view's camera axes + translation_m",
    "axes": "x right in the picture, y down, z away from the camera",
    "pixel": "focal_px * (x / z, y / z) + principal_point_px; (0, 0) is the center of the top left pixel",
    "clock": "session_time = offset_s + rate * view_time; a picture shows the scene as it was delay_s before that time",
    "window": "from start_s (session time) on, until the next one; one window: a camera on a tripod",
}


@dataclass(frozen=True, eq=False)
class SolvedCamera:
    """One phone of a take, without distortion. G windows during which it stands still: one, if it is on a tripod.

    size         (width, height) px of the upright picture
    focal_px     of both axes; the principal point is half the size
    clock        of the sync
    start_s      (G,)       session time from which on a window counts
    rotation     (G, 3, 3)  from the axes of the first view's camera to this one's
    translation  (G, 3) m   of the same points, in meters as those of the triangulation
    delay_s      (G,)       how much later than the clock says the view shows the scene
    """

    size: tuple[int, int]
    focal_px: float
    clock: ClockMap
    start_s: Array
    rotation: Array
    translation: Array
    delay_s: Array

    @property
    def principal_point_px(self) -> Array:
        """The pixel (2,) of the optical axis."""
        return principal_point(np.array(self.size, dtype=np.float64))

    @property
    def moves(self) -> bool:
        """Whether it was solved in several windows."""
        return len(self.start_s) > 1

    def camera(self, window: int = 0) -> Camera[Array]:
        """The camera in the axes of the first view's, to project with."""
        turn, move = self.rotation[window], self.translation[window]
        return Camera(turn, -turn.T @ move, np.array(self.focal_px), self.principal_point_px, self.size)

    def as_json(self) -> dict[str, Any]:
        """Its row in `cameras.json`."""
        windows = zip(self.start_s, self.rotation, self.translation, self.delay_s, strict=True)
        return {
            "size_px": list(self.size),
            "focal_px": self.focal_px,
            "principal_point_px": self.principal_point_px.tolist(),
            "distortion": [0.0] * 5,
            "offset_s": self.clock.offset_s,
            "rate": self.clock.rate,
            "windows": [
                {
                    "start_s": float(start),
                    "rotation": turn.tolist(),
                    "translation_m": move.tolist(),
                    "delay_s": float(delay),
                }
                for start, turn, move, delay in windows
            ],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SolvedCamera:
        """The inverse of `as_json`. Raises KeyError, TypeError or ValueError for anything else."""
        width, height = row["size_px"]
        turn, move, start, delay = (
            np.array([window[key] for window in row["windows"]], dtype=np.float64)
            for key in ("rotation", "translation_m", "start_s", "delay_s")
        )
        if not len(turn) or turn.shape[1:] != (3, 3) or move.shape[1:] != (3,):
            raise ValueError(f"a camera has rotations {turn.shape} and translations {move.shape}")
        clock = ClockMap(float(row["offset_s"]), float(row["rate"]))
        return cls((int(width), int(height)), float(row["focal_px"]), clock, start, turn, move, delay)


def cameras_json(cameras: Mapping[str, SolvedCamera], *, height_m: float) -> dict[str, Any]:
    """The cameras of a take as a JSON object.

    height_m  the athlete's, which the meters come from; 0: they are those of a body of common size
    """
    meters = f"from the athlete's height, {height_m:g} m" if height_m else "of a body of common size, 1.75 m tall"
    return {
        "convention": {**CONVENTION, "meters": meters},
        "first_view": next(iter(cameras)),
        "views": {view: camera.as_json() for view, camera in cameras.items()},
    }


def cameras_from_json(content: Mapping[str, Any]) -> dict[str, SolvedCamera]:
    """The inverse of `cameras_json`. Raises KeyError, TypeError or ValueError for anything else."""
    return {view: SolvedCamera.from_json(row) for view, row in content["views"].items()}


def read_cameras(path: Path | str) -> dict[str, SolvedCamera]:
    """View -> camera, from `cameras.json`. Raises FormatError for anything else, and for a damaged file."""
    content = records.read_json(path)
    if content["format"] != FORMAT:
        raise FormatError(f"{path} holds {content['format']!r}, and {FORMAT} were expected")
    try:
        return cameras_from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged: {error}", hint="twoview triangulate") from error


def pose2sim_toml(cameras: Mapping[str, SolvedCamera]) -> str:
    """A calibration for Pose2Sim; its folders of 2D poses are paired with the cameras by the order of their names."""
    return _group(dict(sorted(cameras.items())), distortions=4)


def anipose_toml(cameras: Mapping[str, SolvedCamera]) -> str:
    """A calibration for anipose."""
    return _group(cameras, distortions=5)


def caliscope_toml(cameras: Mapping[str, SolvedCamera]) -> str:
    """A camera array for caliscope, whose cameras have numbers: 0 is the first view, and comments name all."""
    parts = []
    for number, (view, camera) in enumerate(cameras.items()):
        rows = {"cam_id": str(number), **_calibration(camera, 5), "rotation_count": "0", "ignore": "false"}
        parts.append(_table(f"cameras.{number}", rows, comment=view))
    return "\n".join(parts)


TOMLS: dict[str, Callable[[Mapping[str, SolvedCamera]], str]] = {
    "pose2sim": pose2sim_toml,
    "anipose": anipose_toml,
    "caliscope": caliscope_toml,
}


def _group(cameras: Mapping[str, SolvedCamera], *, distortions: int) -> str:
    parts = [
        _table(f"cam_{number:02d}", {"name": json.dumps(view, ensure_ascii=False), **_calibration(camera, distortions)})
        for number, (view, camera) in enumerate(cameras.items(), 1)
    ]
    return "\n".join([*parts, _table("metadata", {"adjusted": "false", "error": "0.0"})])


def _calibration(camera: SolvedCamera, distortions: int) -> dict[str, str]:
    """The rows that the three tools share: pixels, and from their world to the camera, as a rotation vector."""
    (x, y), focal = camera.principal_point_px, camera.focal_px
    matrix = [[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]]
    return {
        "size": f"[{camera.size[0]}, {camera.size[1]}]",
        "matrix": f"[{', '.join(map(_numbers, matrix))}]",
        "distortions": _numbers([0.0] * distortions),
        "rotation": _numbers(Rotation.from_matrix(camera.rotation[0] @ FROM_Z_UP).as_rotvec()),
        "translation": _numbers(camera.translation[0]),
        "fisheye": "false",
    }


def _table(name: str, rows: Mapping[str, str], *, comment: str = "") -> str:
    lines = [f"[{name}]" + (f"  # {comment}" if comment else ""), *(f"{key} = {text}" for key, text in rows.items())]
    return "\n".join(lines) + "\n"


def _numbers(values: Sequence[float] | Array) -> str:
    """Numbers without exponents, which not every reader of TOML takes."""
    return f"[{', '.join(f'{float(value):.12f}' for value in values)}]"
