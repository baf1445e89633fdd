"""From a video to the athlete's 2D poses: find everyone, track them through the whole video, then choose.

Decoding and the search for people run in a thread of their own, the keypoint network on all processor cores. Everyone's
tracks are saved meanwhile, so that an interrupted run continues where it stopped and ends in the same arrays.
"""

from __future__ import annotations

import logging
import os
import threading
import time as clock
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twoview.config import DetectConfig
from twoview.detection.athlete import Choice, Crowd, check_sure, choose_alone, draw_people
from twoview.detection.estimation import read_ahead, search_every, windows
from twoview.detection.people_file import PeopleFile, Tracks, read_people
from twoview.detection.repair import repair, smooth
from twoview.detection.tracking import VideoTracker, join, poses_of_track
from twoview.detectors import SHIPPED, TopDown, build
from twoview.errors import DetectorError, FormatError
from twoview.machine import cores, keep_memory_low
from twoview.media.video import decoded, probe
from twoview.poses import Poses2D, Source
from twoview.progress import OnProgress, Progress, report
from twoview.skeleton import SKELETONS
from twoview.storage import records

MOST_SIDE = 2560  # px of a picture's longer side; larger ones (4K, 8K) are scaled down while decoding

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Everyone:
    """Everyone in a video, whose pictures are `size` px (width, height); made_by is the detector's name and version."""

    video: Path
    crowd: Crowd
    size: tuple[int, int]
    made_by: str

    def poses(self, track: int, config: DetectConfig, view: str = "") -> Poses2D:
        """The keypoints of one track, cleaned as the settings say, in the video's own pixels."""
        crowd = self.crowd
        poses = poses_of_track(crowd.people, track, crowd.skeleton, crowd.size, least=config.score)
        if self.size != crowd.size:
            scale = np.array(self.size) / np.array(crowd.size)
            poses = replace(poses, xy=(poses.xy + 0.5) * scale - 0.5, size=self.size)
        poses = clean(poses, config, view or self.video.stem)
        return replace(poses, view=view, source=Source(records.fingerprint(self.video), self.made_by))

    def draw(self, choice: Choice, path: Path, *, least: float) -> None:
        """Write a picture of each person, see `athlete.draw_people`; nothing where there is but one."""
        if choice.people > 1:
            draw_people(self.video, self.crowd, choice, path, least=least)


def detect(
    video: Path | str,
    *,
    config: DetectConfig | None = None,
    view: str = "",
    partial: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Poses2D:
    """The athlete's keypoints in every frame, in the detector's skeleton; unseen in frames without the athlete.

    partial  file of everyone's tracks, see `find_everyone`; where there are several people a picture of each is written
             beside it
    Raises DetectorError where nobody is found, and where it is not clear enough who of several people is the athlete;
    VideoError where the file cannot be read.
    """
    config = config or DetectConfig()
    everyone = find_everyone(video, config=config, view=view, partial=partial, on_progress=on_progress)
    choice = choose_in(everyone, config)
    if partial is not None:
        everyone.draw(choice, partial.with_suffix(".png"), least=config.sureness)
    try:
        check_sure(choice, config.sureness)
    except DetectorError as error:
        raise DetectorError(f"{video}: {error.message}", hint=error.hint) from error
    return everyone.poses(choice.track, config, view)


def find_everyone(
    video: Path | str,
    *,
    config: DetectConfig | None = None,
    view: str = "",
    partial: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Everyone:
    """Everyone's tracks through a video, the first step of `detect`.

    partial  file of everyone's tracks: saved during the run, continued by the next call for this video and these
             settings, and complete at the end, so that choosing another person needs no new detection and no network
    """
    config = config or DetectConfig()
    video = Path(video)
    info = probe(video)
    size = working_size(info.size)
    kept = PeopleFile(partial, video, config)
    label = f"detect {view or video.stem}"
    tracks = kept.finished() or find_people(kept, size, frames=info.frames, label=label, on_progress=on_progress)
    return Everyone(video, Crowd(join(tracks.people), tracks.skeleton, size), info.size, tracks.made_by)


def choose_in(everyone: Everyone, config: DetectConfig) -> Choice:
    """The athlete by one video alone, or by the settings. Raises DetectorError as `athlete.choose_alone` does."""
    try:
        return choose_alone(everyone.crowd.people, everyone.crowd.size, config.person)
    except DetectorError as error:
        advice, made_by = error.hint, everyone.made_by
        if not len(everyone.crowd.people.frame) and not made_by.startswith(SHIPPED):
            advice = (
                f"does `--detector {SHIPPED}` find somebody? then the network of {made_by} is not trained, or for "
                f"other pictures; if not: {error.hint}"
            )
        raise DetectorError(f"{everyone.video}: {error.message}", hint=advice) from error


def clean(poses: Poses2D, config: DetectConfig, label: str) -> Poses2D:
    """Poses repaired and smoothed as the settings say; the log tells under `label` what was repaired."""
    if config.repair:
        poses, repairs = repair(poses)
        log.info("%s: %s", label, repairs)
    if config.smooth != "none":
        poses = smooth(poses, config.smooth, config.smooth_hz)
    return poses


def known_crowd(video: Path, partial: Path) -> Everyone | None:
    """Everyone in a video by the complete file of their tracks; None where one of the two is missing, or damaged."""
    if not os.path.exists(video):
        return None
    try:
        head, people = read_people(partial)
    except FormatError:
        return None
    same = head.get("inputs") == {"video": records.fingerprint(video)}
    if not (same and head.get("complete") and head.get("skeleton") in SKELETONS):
        return None
    size = probe(video).size
    crowd = Crowd(join(people), SKELETONS[head["skeleton"]], working_size(size))
    return Everyone(video, crowd, size, head["settings"]["detector"])


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) that pictures are detected in: their own up to MOST_SIDE px, larger ones scaled down."""
    scale = min(1.0, MOST_SIDE / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def find_people(
    kept: PeopleFile,
    size: tuple[int, int],
    *,
    frames: int = 0,
    label: str = "detect",
    on_progress: OnProgress | None = None,
) -> Tracks:
    """Everyone in every frame of the file's video; continues what the file holds.

    size    (width, height) that pictures are scaled to
    frames  number of frames to expect, for the progress
    """
    config = kept.config
    keep_memory_low()
    detector = build(config.detector, device=config.device, finder=config.finder, flip=config.flip)
    people, complete = kept.load(detector)
    if complete:
        return Tracks(people, detector.skeleton, detector.name)
    every = config.people_every if isinstance(detector, TopDown) else 1
    known = len(people.time)
    tracker = VideoTracker(detector, people)
    tracker.resume(every)
    stored = decoded(kept.video, start=float(people.time[-1]) if known else None, threads=max(cores() // 2, 1))
    room = threading.Semaphore(every)  # pictures in memory: those up to the next search, or read ahead of it
    pictures = search_every(stored, detector, every, after=people.time, size=size, on_drop=room.release)
    source = read_ahead(pictures, room)
    began = saved = clock.monotonic()
    try:
        for window in windows(source):
            tracker.advance(window)
            keep_memory_low()
            now, done = clock.monotonic(), len(tracker.time)
            if now - saved > config.save_every_s:
                kept.save(tracker.people(tracker.done), detector, complete=False)
                saved = now
            speed = {"frames/s": (done - known) / max(now - began, 1e-6)}
            report(on_progress, Progress(label, done, max(frames, done), "frames", speed))
        people = tracker.people()
    except BaseException:
        if tracker.done > known:
            kept.save(tracker.people(tracker.done), detector, complete=False)
        raise
    finally:
        source.close()
        tracker.close()
    kept.save(people, detector, complete=True)
    return Tracks(people, detector.skeleton, detector.name)
