"""When the feet stand on the floor: still and low, by the motion of the ankles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy import ndarray as Array

from twoview.detection.smoothing import butterworth
from twoview.poses import cheapest_course
from twoview.skeleton import H36M17, Skeleton

FEET = ("right", "left")  # the order of a `World`'s contacts
SPEED = 0.27  # m/s, sigma of a standing ankle's speed
HEIGHT_M = 0.05  # sigma of a standing ankle's height; below the usual height it counts half
FLIES = 3.0  # what a frame in the air costs, in squared sigmas
LEAST = 20.0  # the most that a frame on the floor costs
CHANGES = 4.0  # what setting a foot down, or lifting it, costs
SMOOTH_HZ = 6.0  # cutoff for speeds, where the frame rate allows it


def ankles(points: Array, skeleton: Skeleton = H36M17) -> Array:
    """The right and the left ankle (T, 2, 3) of points (T, J, 3)."""
    return points[:, [skeleton.index(f"{side}_ankle") for side in FEET]]


def standing(time: Array, feet: Array, up: Array, level: float, *, blur: float = 1.0) -> Array:
    """Whether each foot stands on the floor (T, 2).

    feet   (T, 2, 3) m  the ankles, in any axes that stand still; NaN where unknown
    up     (3,)         against gravity, of length 1
    level  m            height of a standing ankle, along `up`
    blur   factor to the sigmas, for feet that are known less well

    The most probable course: a standing ankle is slow and near its level, and feet do not change in every frame.
    """
    found = np.zeros(feet.shape[:2], dtype=bool)
    pace = speed(time, feet)
    for foot in range(2):
        high = feet[:, foot] @ up - level
        down = (pace[:, foot] / SPEED) ** 2 + (np.where(high > 0, high, high / 2) / HEIGHT_M) ** 2
        down = down / blur**2
        down = np.where(np.isfinite(down), np.minimum(down, LEAST), LEAST)
        cost = np.stack([np.full(len(down), FLIES), down], axis=1)
        change = np.array([[0.0, CHANGES], [CHANGES, 0.0]])
        if len(cost):
            found[:, foot] = cheapest_course(cost, lambda _, change=change: change) == 1  # type: ignore[misc]
    return found


def speed(time: Array, feet: Array) -> Array:
    """Speed (T, F) m/s of points (T, F, 3), smoothed; NaN where it is not known."""
    pace = np.full(feet.shape[:2], np.nan)
    for foot in range(feet.shape[1]):
        smooth = smoothed(time, feet[:, foot])
        for run in _runs(smooth, time):
            if len(run) > 3:
                pace[run, foot] = np.linalg.norm(np.gradient(smooth[run], time[run], axis=0), axis=-1)
    return pace


def smoothed(time: Array, places: Array, cutoff_hz: float = SMOOTH_HZ) -> Array:
    """Places (T, 3) without what is faster than the cutoff, where the frame rate allows it; gaps stay."""
    result = places.copy()
    for run in _runs(places, time):
        if len(run) > 3:
            rate = 1 / float(np.median(np.diff(time[run])))
            result[run] = butterworth(time[run], places[run], cutoff_hz=min(cutoff_hz, 0.4 * rate))
    return result


def _runs(places: Array, time: Array) -> Iterator[Array]:
    """Numbers of the frames that know a place (T, 3), cut where more than two are missing."""
    known = np.flatnonzero(np.isfinite(places).all(axis=-1))
    if len(known):
        usual = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
        yield from np.split(known, np.flatnonzero(np.diff(time[known]) > 3 * usual) + 1)


def spans(contact: Array) -> Iterator[tuple[int, Array]]:
    """Foot (0: right, 1: left) and frame numbers of every time that it stands, by `contact` (T, 2)."""
    for foot in range(contact.shape[1]):
        down = np.flatnonzero(contact[:, foot])
        if len(down):
            for span in np.split(down, np.flatnonzero(np.diff(down) > 1) + 1):
                yield foot, span
