"""Short builders of scenes with known truth, named after what is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from synthetic import SOUND_RATE, camera_around, claps, figure, write_scene

from twoview.datasets.rendered import Scene
from twoview.geometry.cameras import Camera
from twoview.media.audio import Audio
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17, to_h36m
from twoview.timeline import ClockMap


def small_scene(folder: Path, **options: Any) -> Scene:
    """Two short films of one figure, 320 x 240, with claps; see `twoview.synthetic.write_scene`."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_scene(folder, **{"seconds": 2.0, "size": (320, 240), "offset_s": 0.35, **options})


def swinging_person(frames: int = 60, *, rate: float = 30.0, seed: int = 0) -> Poses3D:
    """A figure in front of a camera, meters, Human3.6M-17."""
    time = np.arange(frames) / rate
    seen = two_cameras()[0].to_camera(figure(time, seed=seed))
    xyz = to_h36m(seen, np.ones(seen.shape[:2]), COCO17)[0]
    return Poses3D(xyz, time, H36M17, "camera", "m", "a")


def seen_flat(poses: Poses3D, *, size: tuple[int, int] = (480, 360)) -> Poses2D:
    """What a camera at the origin sees of poses in its space."""
    camera = replace(camera_around(0.0, size=size), position=np.zeros(3))
    return Poses2D(
        camera.project(poses.xyz), np.ones(poses.xyz.shape[:2]), poses.time, poses.skeleton, size, poses.view
    )


def two_cameras(angle_deg: float = 90.0) -> tuple[Camera[Array], Camera[Array]]:
    """Two phones so many degrees apart."""
    return camera_around(0.0), camera_around(angle_deg)


def seen_figure(
    camera: Camera[Array], *, start: float = 0.0, seconds: float = 8.0, rate: float = 30.0,
    clock: ClockMap | None = None, seed: int = 0, view: str = "", noise: float = 1.0,
) -> Poses2D:  # fmt: skip
    """The figure from session time `start` on, on a view's own clock, with errors of `noise` px."""
    moments = start + np.arange(round(seconds * rate)) / rate
    xy = camera.project(camera.to_camera(figure(moments, seed=seed)))
    xy = xy + noise * np.random.default_rng(seed + len(view)).normal(size=xy.shape)
    own = (clock or ClockMap()).to_view(moments)
    return Poses2D(xy, np.ones(xy.shape[:2]), own, COCO17, camera.size, view)


def clap_track(seconds: float = 4.0, *, late_s: float = 0.0, drift_ppm: float = 0.0, seed: int = 0) -> Audio:
    """A recording of claps at irregular times that began `late_s` after the session's clock."""
    events = np.cumsum(np.random.default_rng(seed).uniform(0.3, 0.9, int(3 * seconds) + 3))
    heard = late_s + (1 + drift_ppm * 1e-6) * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    return Audio(claps(heard, events).astype(np.float32)[:, None], SOUND_RATE, 0.0)
