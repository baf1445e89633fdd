"""A drawn scene with known truth: a swinging figure of colored dots, two virtual phones, claps that both hear.

The `markers` detector finds the dots, so the whole chain can be tested on video files in a second, without a network.
Everything is a function of session time, so views of any rate, start and drift show the same motion.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from markers import COLORS
from numpy import ndarray as Array

from twoview.datasets.motion_capture import rotation
from twoview.datasets.rendered import Scene, SceneView
from twoview.geometry.cameras import Camera, principal_point
from twoview.media.audio import Audio
from twoview.media.writer import VideoWriter
from twoview.poses import Poses2D, Poses3D
from twoview.skeleton import COCO17, H36M17, to_h36m
from twoview.timeline import ClockMap

HEIGHT_M = 1.75
SOUND_RATE = 48000
_GREY = (118, 118, 118)

# Rest position of a joint against the one it hangs on, meters; x to the right of the picture, y down, z away. The
# figure faces the camera; its head is drawn wide so that the dots of the face stay apart.
_HANGS: dict[str, tuple[str, tuple[float, float, float]]] = {
    "left_hip": ("pelvis", (0.13, 0.0, 0.0)), "right_hip": ("pelvis", (-0.13, 0.0, 0.0)),
    "left_knee": ("left_hip", (0.0, 0.44, 0.0)), "right_knee": ("right_hip", (0.0, 0.44, 0.0)),
    "left_ankle": ("left_knee", (0.0, 0.43, 0.0)), "right_ankle": ("right_knee", (0.0, 0.43, 0.0)),
    "neck": ("pelvis", (0.0, -0.52, 0.0)),
    "left_shoulder": ("neck", (0.18, 0.03, 0.0)), "right_shoulder": ("neck", (-0.18, 0.03, 0.0)),
    "left_elbow": ("left_shoulder", (0.0, 0.29, 0.0)), "right_elbow": ("right_shoulder", (0.0, 0.29, 0.0)),
    "left_wrist": ("left_elbow", (0.0, 0.26, 0.0)), "right_wrist": ("right_elbow", (0.0, 0.26, 0.0)),
    "nose": ("neck", (0.0, -0.16, -0.13)), "left_eye": ("neck", (0.07, -0.26, -0.08)),
    "right_eye": ("neck", (-0.07, -0.26, -0.08)), "left_ear": ("neck", (0.15, -0.20, 0.02)),
    "right_ear": ("neck", (-0.15, -0.20, 0.02)),
}  # fmt: skip


def camera_around(angle_deg: float, *, distance: float = 4.2, size: tuple[int, int] = (480, 360)) -> Camera[Array]:
    """A camera that stands so many degrees round the origin, looking at it."""
    turn, focal = _turn(angle_deg, "y"), np.full(2, 1.35 * size[0])
    return Camera(turn, -turn.T @ [0.0, 0.0, distance], focal, principal_point(np.array(size)), size)


def figure(time: Array, *, seed: int = 0) -> Array:
    """COCO-17 joints (T, 17, 3) in meters at session times (T,): swings, turns, bends, sways; bones keep their length.

    seed  another seed is another motion of the same body
    """
    time = np.asarray(time, dtype=np.float64)
    rng = np.random.default_rng(seed)

    def wave(low: float, high: float, middle: float = 0.0) -> Array:
        """Degrees over time: two sines whose sum stays below the amplitude drawn from [low, high]."""
        size, rate, phase = rng.uniform(low, high), rng.uniform(0.25, 0.7, 2), rng.uniform(0, 2 * np.pi, 2)
        both = 0.7 * np.sin(2 * np.pi * rate[0] * time + phase[0]) + 0.3 * np.sin(4 * np.pi * rate[1] * time + phase[1])
        return middle + size * both

    turn = {"pelvis": _turn(wave(25, 50), "y") @ _turn(wave(3, 8), "z")}
    turn["neck"] = turn["pelvis"] @ _turn(wave(15, 30), "y") @ _turn(wave(8, 20, middle=-8), "x")
    for side, out in (("left", -1), ("right", 1)):
        upper = turn["neck"] @ _turn(wave(30, 70, middle=-20), "x") @ _turn(out * wave(10, 25, middle=25), "z")
        turn[f"{side}_shoulder"] = upper
        turn[f"{side}_elbow"] = upper @ _turn(wave(20, 40, middle=-50), "x")
        thigh = turn["pelvis"] @ _turn(wave(10, 28, middle=-12), "x") @ _turn(out * wave(2, 6, middle=8), "z")
        turn[f"{side}_hip"] = thigh
        turn[f"{side}_knee"] = thigh @ _turn(wave(8, 20, middle=25), "x")
    sway = np.stack([wave(0.05, 0.2), wave(0.02, 0.05), wave(0.05, 0.2)], axis=-1)
    place = {"pelvis": sway}
    for joint, (parent, rest) in _HANGS.items():
        frame = turn.get(parent, turn["pelvis"])
        place[joint] = place[parent] + frame @ np.array(rest)
    return np.stack([place[joint] for joint in COCO17.joints], axis=1)


def claps(time: Array, events: Array) -> Array:
    """Sound (N,) at session times (N,): one clap at each event, a known curve and so exact between samples."""
    sound = np.zeros(len(time))
    for number, event in enumerate(events):
        rng = np.random.default_rng(1000 + number)
        inside = (time >= event) & (time < event + 0.08)
        since = time[inside] - event
        pitch, phase = rng.uniform(300, 5000, 40), rng.uniform(0, 2 * np.pi, 40)
        tone = np.sin(2 * np.pi * pitch * since[:, None] + phase).sum(axis=1)
        sound[inside] += 0.1 * tone * np.exp(-since / 0.012) * np.minimum(since / 0.0005, 1.0)
    return np.clip(sound, -0.95, 0.95)


def write_scene(
    folder: Path | str,
    *,
    seconds: float = 6.0,
    angle_deg: float = 90.0,
    offset_s: float = 0.613,
    drift_ppm: float = 0.0,
    rates: tuple[float, float] = (30.0, 30.0),
    size: tuple[int, int] = (480, 360),
    seed: int = 0,
    sound: bool = True,
) -> Scene:
    """Write `a.mp4` and `b.mp4` into a folder and return their truth.

    offset_s  b began so much later than a; drift_ppm: b's clock runs so much slower
    seed      of the motion and the claps; rates: frames per second of a and b
    """
    clocks = {"a": ClockMap(), "b": ClockMap(offset_s, 1.0 + drift_ppm * 1e-6)}
    angles = {"a": 0.0, "b": angle_deg}
    events = np.cumsum(np.random.default_rng(seed).uniform(0.3, 0.9, int(3 * seconds) + 3))
    views = {}
    for index, view in enumerate("ab"):
        camera = camera_around(angles[view], size=size)
        path = Path(folder) / f"{view}.mp4"
        time = np.arange(round(seconds * rates[index])) / rates[index]
        body = figure(clocks[view].to_session(time), seed=seed)
        track = None
        if sound:
            heard = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
            hiss = 0.002 * np.random.default_rng(seed + 77 + index).standard_normal(len(heard))
            wave = claps(clocks[view].to_session(heard), events) + hiss
            track = Audio(wave.astype(np.float32)[:, None], SOUND_RATE, 0.0)
        _film(path, camera, body, time, rates[index], track)
        views[view] = _truth(path, clocks[view], camera, body, time, view)
    return Scene(views, HEIGHT_M, angle_deg)


def _film(path: Path, camera: Camera[Array], body: Array, time: Array, rate: float, sound: Audio | None) -> None:
    seen = camera.to_camera(body)
    flat, depth = camera.project(seen), seen[..., 2]
    radius = max(camera.focal[0] / np.linalg.norm(camera.position) * 0.028, 3.0)
    with VideoWriter(path, camera.size, rate, audio=sound, quality=10) as writer:
        for moment, xy, far in zip(time, flat, depth, strict=True):
            rgb = np.full((camera.size[1], camera.size[0], 3), _GREY, np.uint8)
            for joint in np.argsort(-far):
                x, y = (round(float(value) * 16) for value in xy[joint])
                cv2.circle(rgb, (x, y), round(radius * 16), COLORS[joint], -1, cv2.LINE_AA, 4)
            writer.write(rgb, float(moment))


def _truth(path: Path, clock: ClockMap, camera: Camera[Array], body: Array, time: Array, view: str) -> SceneView:
    seen = camera.to_camera(body)
    flat = camera.project(seen)
    ones = np.ones(body.shape[:2], np.float32)
    solid = to_h36m(seen, ones, COCO17)[0]
    return SceneView(
        video=path,
        clock=clock,
        sound_offset_s=clock.offset_s,
        poses2d=Poses2D(flat, ones, time, COCO17, camera.size, view),
        poses3d=Poses3D(solid, time, H36M17, "camera", "m", view),
        focal_px=camera.focal[0],
    )


def _turn(degrees: Array | float, axis: str) -> Array:
    """Rotation matrices (..., 3, 3) about one axis."""
    return rotation(axis, np.asarray(degrees)[..., None])
