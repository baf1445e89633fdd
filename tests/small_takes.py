"""Takes of one swinging body, seen by two views, and the settings of a run that takes a second."""

from __future__ import annotations

import numpy as np

from twoview.config import FinetuneConfig
from twoview.poses import Poses2D, Source
from twoview.skeleton import H36M17
from twoview.takes import Take
from twoview.timeline import ClockMap, Sync

PAPER = FinetuneConfig(method="paper", epochs=4, batch=4, lr=1e-3, device="cpu", precision="fp32", clip_length=9)


def body(time: np.ndarray, seed: int = 0) -> np.ndarray:
    """A body (T, 17, 3) in meters, y down, that swings about."""
    random = np.random.default_rng(seed)
    rest = random.normal(size=(17, 3)) * [0.2, 0.5, 0.15]
    rest -= rest[0]
    swing = random.normal(size=(17, 3)) * 0.1
    turn = 0.6 * np.sin(2 * time + seed)
    c, s, o, z = np.cos(turn), np.sin(turn), np.ones_like(turn), np.zeros_like(turn)
    rotation = np.stack([np.stack([c, z, s], -1), np.stack([z, o, z], -1), np.stack([-s, z, c], -1)], -2)
    return (rest + swing * np.sin(3 * time)[:, None, None]) @ rotation


def take(name: str = "take1", seconds: float = 3.0, seed: int = 0, offset: float = 0.4) -> Take:
    """Two views, 90 degrees apart, of one body; b began `offset` later and runs at 25 frames per second."""
    poses = {}
    for view, rate, start, angle in (("a", 30, 0.0, 0.0), ("b", 25, offset, np.pi / 2)):
        time = np.arange(int((seconds - start) * rate)) / rate
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        points = body(time + start, seed) @ turn + np.array([0, 0, 4])
        xy = points[..., :2] / points[..., 2:] * 1000 + [640, 360]
        source = Source(f"{name}-{view}")
        poses[view] = Poses2D(xy, np.full(xy.shape[:2], 0.9), time, H36M17, (1280, 720), view, source)
    return Take(name, poses, Sync("a", {"a": ClockMap(), "b": ClockMap(offset)}))
