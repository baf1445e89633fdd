"""Smoothing of 3D poses over time and filling of their gaps, for those who ask for it; nothing does it unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy import ndarray as Array

from twoview.config import FilterConfig
from twoview.detection.smoothing import butterworth, curve, one_euro
from twoview.errors import ConfigError
from twoview.poses import MAX_GAP_S, Poses3D
from twoview.skeleton import BODY_M

_TOLERANCE_S = 1e-6  # a gap as long as the setting is filled


def filter_poses(poses: Poses3D, config: FilterConfig | None = None) -> Poses3D:
    """Poses smoothed over time with their gaps filled, at the same times; `filter` of the result says how.

    Each joint by itself. What is unknown stays NaN but for gaps of at most `config.fill_s`, and makes nothing else
    unknown: a curve over gaps of up to 0.1 s connects their two sides for the filter alone, and longer ones separate
    them. Times may be uneven, and the cutoff means Hz of real time: see `butterworth`; a joint that every second frame
    or fewer know, too few for the cutoff, stays as it is there. Bone lengths are not held.

    Raises ConfigError where butterworth's cutoff is not below half the frame rate.
    """
    config = config or FilterConfig()
    if not config.is_on or not len(poses):
        return poses
    if config.kind == "butterworth" and len(poses) > 1:
        _check_rate(1.0 / float(np.median(np.diff(poses.time))), config.cutoff_hz)
    xyz = poses.xyz.astype(np.float64)
    rise = config.rise * BODY_M / body_size(poses)
    known_frames = np.asarray(np.isfinite(xyz).all(axis=-1))
    for joint in range(len(poses.skeleton)):
        for run, wanted in _runs(known_frames[:, joint], poses.time, config.fill_s):
            time, known = poses.time[run], xyz[run, joint]
            slow = len(run) > 1 and config.cutoff_hz * float(np.median(np.diff(time))) >= 0.5
            if config.kind == "butterworth" and not slow:  # too few frames know the joint to tell what is too fast
                known = butterworth(time, known, cutoff_hz=config.cutoff_hz, order=config.order)
            elif config.kind == "one-euro":
                known = one_euro(time, known, cutoff_hz=config.cutoff_hz, rise=rise)
            xyz[wanted, joint] = curve(time, known)(poses.time[wanted]) if len(wanted) > len(run) else known
    return replace(poses, xyz=xyz, filter="; ".join(filter(None, [poses.filter, in_words(config)])))


def in_words(config: FilterConfig) -> str:
    """What a filter does, in words: "butterworth, 6 Hz, order 4, no lag"; "" where it does nothing."""
    kinds = {
        "none": "",
        "butterworth": f"butterworth, {config.cutoff_hz:g} Hz, order {config.order}, no lag",
        "one-euro": f"one-euro, {config.cutoff_hz:g} Hz at rest, +{config.rise:g} Hz per m/s",
    }
    filled = f"gaps up to {config.fill_s:g} s filled" if config.fill_s else ""
    return ", ".join(filter(None, [kinds[config.kind], filled]))


def _check_rate(rate: float, cutoff_hz: float) -> None:
    if cutoff_hz >= rate / 2:
        raise ConfigError(
            f"filter.cutoff_hz is {cutoff_hz:g} Hz, and at {rate:.4g} frames per second a filter can only tell "
            f"frequencies below {rate / 2:.4g} Hz apart",
            hint="a lower --set filter.cutoff_hz, or no --filter",
        )


def _runs(known: Array, time: Array, fill_s: float) -> Iterator[tuple[Array, Array]]:
    """Frames (R,) that know a joint from one long gap to the next, and these with those (W,) of the gaps to fill."""
    at = np.flatnonzero(known)
    if not len(at):
        return
    frame_s = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    span = np.diff(time[at])
    for run in np.split(at, np.flatnonzero(span > max(fill_s, MAX_GAP_S, 1.5 * frame_s) + _TOLERANCE_S) + 1):
        short = np.diff(time[run]) <= fill_s + _TOLERANCE_S
        filled = [np.arange(a, b) for a, b, ok in zip(run[:-1], run[1:], short, strict=True) if ok]
        yield run, np.unique(np.concatenate([run, *filled]))


def body_size(poses: Poses3D) -> float:
    """Summed bone lengths in the poses' unit, the median frame of each; 1 where no bone is known."""
    with np.errstate(invalid="ignore"):
        bones = np.stack([poses.xyz[:, a] - poses.xyz[:, b] for a, b in poses.skeleton.bones], axis=1)
    lengths = np.linalg.norm(bones.astype(np.float64), axis=-1)
    known = np.isfinite(lengths).any(axis=0)
    return float(np.nanmedian(lengths[:, known], axis=0).sum()) or 1.0 if known.any() else 1.0
