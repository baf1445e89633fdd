"""Detections of other tools as our Poses2D: frames get the video's true times, people become tracks, one is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from twoview import records
from twoview.choosing import choose
from twoview.config import DetectConfig
from twoview.datasets.detections import Detections, read_detections
from twoview.detection import single_out
from twoview.detectors import Person
from twoview.detectors.cropping import around
from twoview.errors import FormatError
from twoview.poses import Poses2D, Source
from twoview.repair import repair, smooth
from twoview.tracking import People, Tracker, join

Array = np.ndarray


def import_poses(
    path: Path | str, video: Path | str, *, kind: str | None = None, config: DetectConfig | None = None, view: str = ""
) -> Poses2D:
    """The athlete from a file of AlphaPose, OpenPose (a folder), MMPose, COCO results or DeepLabCut.

    video   the file the detections were made from: its frames' times, size and fingerprint are taken
    kind    the tool; default: told from the content
    config  person, score, repair and smoothing are used; the rest is how one detects
    Raises FormatError where the file has frames that the video has not.
    """
    from twoview.video import probe, timeline

    config = config or DetectConfig()
    found, times, size = read_detections(path, kind), timeline(video).seconds, probe(video).size
    if len(found.frame) and found.frame.max() >= len(times):
        raise FormatError(
            f"{path} has frame {found.frame.max()}, and {video} has {len(times)} frames (0 to {len(times) - 1})",
            hint="were they made from this very video, not from a cut or resampled copy?",
        )
    people = join(as_people(found, times))
    poses = single_out(people, choose(people, size, config.person), found.skeleton, size, least=config.score)
    if config.repair:
        poses, _ = repair(poses)
    if config.smooth != "none":
        poses = smooth(poses, config.smooth, config.smooth_hz)  # type: ignore[arg-type]
    return replace(poses, view=view, source=Source(records.fingerprint(video), found.tool))


def as_people(found: Detections, times: Array) -> People:
    """Rows of people with track ids: the tool's own, or those of people followed from frame to frame."""
    order = np.argsort(found.frame, kind="stable")
    box = np.array([around(xy, score, least=1e-6) for xy, score in zip(found.xy, found.score, strict=True)])
    order = order[~np.isnan(box[order]).any(axis=1)]
    track = found.person.copy()
    if (found.person < 0).any():
        tracker = Tracker()
        for frame in np.unique(found.frame[order]):
            rows = order[found.frame[order] == frame]
            people = [Person(found.xy[i], found.score[i], box[i]) for i in rows]
            matched = tracker.match(int(frame), people)
            known = {i: t for t, i in matched.items()}
            for i, (row, person) in enumerate(zip(rows, people, strict=True)):
                track[row] = known[i] if i in known else tracker.new()
                tracker.see(int(frame), int(track[row]), person)
    looks = np.full((len(order), 6), np.nan)
    return People(times, found.frame[order], track[order], found.xy[order], found.score[order], box[order], looks)
