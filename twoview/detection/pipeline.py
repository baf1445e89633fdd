"""From a video to the athlete's 2D poses: find everyone, track them through the whole video, then choose.

Decoding and the search for people run in a thread of their own, the keypoint network on all processor cores. Everyone's
tracks are saved meanwhile, so that an interrupted run continues where it stopped and ends in the same arrays.
"""

from __future__ import annotations

import logging
import threading
import time as clock
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from twoview.config import DetectConfig
from twoview.detection.athlete import choose, choose_together, draw_people, summarize
from twoview.detection.estimation import read_ahead, search_every, windows
from twoview.detection.people_file import PeopleFile, Tracks, read_people
from twoview.detection.repair import repair, smooth
from twoview.detection.tracking import People, VideoTracker, join
from twoview.detectors import TopDown, build
from twoview.errors import DetectorError, TwoViewError, VideoError
from twoview.machine import cores, keep_memory_low
from twoview.media.video import decoded, probe
from twoview.poses import Poses2D, Source
from twoview.progress import OnProgress, Progress, report
from twoview.skeleton import Skeleton
from twoview.storage import records
from twoview.timeline import Sync

MOST_SIDE = 2560  # px of a picture's longer side; larger ones (4K, 8K) are scaled down while decoding

log = logging.getLogger(__name__)


def detect(
    video: Path | str,
    *,
    config: DetectConfig | None = None,
    view: str = "",
    partial: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Poses2D:
    """The athlete's keypoints in every frame, in the detector's skeleton; unseen in frames without the athlete.

    partial  file of everyone's tracks: saved during the run, continued by the next call for this video and these
             settings, and complete at the end, so that choosing another person needs no new detection and no network;
             where there are several people a picture of each is written beside the file
    Raises DetectorError where nobody is found, VideoError where the file cannot be read.
    """
    config = config or DetectConfig()
    video = Path(video)
    info = probe(video)
    size = working_size(info.size)
    kept = PeopleFile(partial, video, config)
    label = f"detect {view or video.stem}"
    tracks = kept.finished() or find_people(kept, size, frames=info.frames, label=label, on_progress=on_progress)
    people = join(tracks.people)
    try:
        athlete = choose(people, size, config.person)
    except DetectorError as error:
        raise DetectorError(f"{video}: {error.message}", hint=error.hint) from error
    if partial is not None and len(people.tracks) > 1:
        summaries = summarize(people, size)
        draw_people(video, size, people, summaries, chosen=athlete, path=partial.with_suffix(".png"))
    poses = poses_of_track(people, athlete, tracks.skeleton, size, least=config.score)
    if size != info.size:
        poses = replace(poses, xy=(poses.xy + 0.5) * (np.array(info.size) / np.array(size)) - 0.5, size=info.size)
    poses = clean(poses, config, view or video.stem)
    return replace(poses, view=view, source=Source(records.fingerprint(video), tracks.made_by))


def clean(poses: Poses2D, config: DetectConfig, label: str) -> Poses2D:
    """Poses repaired and smoothed as the settings say; the log tells under `label` what was repaired."""
    if config.repair:
        poses, repairs = repair(poses)
        log.info("%s: %s", label, repairs)
    if config.smooth != "none":
        poses = smooth(poses, config.smooth, config.smooth_hz)
    return poses


def detect_many(
    videos: Mapping[str, Path],
    *,
    config: DetectConfig | None = None,
    partials: Mapping[str, Path] | None = None,
    jobs: int = 1,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Poses2D]]:
    """(view, poses) of several videos, `jobs` of them in parallel, each as it is done.

    One video keeps all cores busy; several in parallel help where decoding or a GPU limits the speed.
    Raises a DetectorError or VideoError after all other videos are done, anything else (a full disk, Ctrl-C) at once.
    """
    failed: list[TwoViewError] = []
    stop = threading.Event()

    def run(view: str) -> Poses2D | TwoViewError:
        def unless_stopped(event: Progress) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            report(on_progress, event)

        partial = (partials or {}).get(view)
        try:
            return detect(videos[view], config=config, view=view, partial=partial, on_progress=unless_stopped)
        except (DetectorError, VideoError) as error:
            return error

    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        running = {pool.submit(run, view): view for view in videos} if jobs > 1 else {}
        try:
            done = ((running[one], one.result()) for one in as_completed(running))
            for view, found in done if jobs > 1 else ((view, run(view)) for view in videos):
                if isinstance(found, Poses2D):
                    yield view, found
                else:
                    failed.append(found)
        finally:
            stop.set()
            for waiting in running:
                waiting.cancel()
    if failed:
        others = "".join(f"\nand: {message}" for message in dict.fromkeys(e.message for e in failed[1:]))
        raise type(failed[0])(failed[0].message + others, hint=failed[0].hint)


def agreed_athletes(videos: Mapping[str, Path], sync: Sync, partials: Mapping[str, Path]) -> dict[str, int]:
    """View -> the athlete's track, of the views in which all views of a take together choose another than each alone.

    partials  view -> file of everyone's tracks, complete
    """
    if len(videos) < 2:
        return {}
    views = {}
    for view, video in videos.items():
        views[view] = join(read_people(partials[view])[1]), working_size(probe(video).size)
    together = choose_together(views, sync)
    return {view: track for view, track in together.items() if track != choose(*views[view])}


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) that pictures are detected in: their own up to MOST_SIDE px, larger ones scaled down."""
    scale = min(1.0, MOST_SIDE / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def poses_of_track(people: People, track: int, skeleton: Skeleton, size: tuple[int, int], *, least: float) -> Poses2D:
    """One track as Poses2D over all frames; joints below `least`, or outside the picture, are unseen."""
    joints = len(skeleton)
    xy, score = np.full((len(people.time), joints, 2), np.nan), np.zeros((len(people.time), joints))
    own = people.of(track)
    xy[own.frame], score[own.frame] = own.xy, own.score
    with np.errstate(invalid="ignore"):
        inside = ((xy > -0.5) & (xy < np.array(size) - 0.5)).all(axis=-1)
    unseen = ~inside | (score < max(least, 1e-6))
    return Poses2D(np.where(unseen[..., None], np.nan, xy), np.where(unseen, 0.0, score), people.time, skeleton, size)


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
