"""From a video to the athlete's 2D poses: find everyone, follow them through the whole clip, then choose.

Decoding and the search for people run in a thread of their own, the keypoint network on all processor cores. What was
found is saved while it runs, so that an interrupted run continues where it stopped and ends in the same arrays.
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
from twoview.detection.estimation import ahead, searched, windows
from twoview.detection.repair import repair, smooth
from twoview.detection.tracking import Follower, People, join
from twoview.detectors import Detector, TopDown, build
from twoview.errors import DetectorError, FormatError, TwoViewError, VideoError
from twoview.machine import cores, keep_memory_low
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

    partial  file that keeps everyone's tracks: saved while running, continued by the next call for the same video and
             settings, and complete at the end (so that choosing another person needs no new detection); where there
             are several people a picture of each is written beside it
    Raises DetectorError where nobody is found, VideoError where the file cannot be read.
    """
    from twoview.media.video import probe

    config = config or DetectConfig()
    video = Path(video)
    info = probe(video)
    keep_memory_low()
    detector = build(config.detector, device=config.device, finder=config.finder, flip=config.flip)
    keeper = Keeper(partial, video, config, detector.name)
    size = working_size(info.size)
    label = f"detect {view or video.stem}"
    people = join(find_people(video, size, detector, config, keeper, info.frames, label, on_progress))
    try:
        athlete = choose(people, size, config.person)
    except DetectorError as error:
        raise DetectorError(f"{video}: {error.message}", hint=error.hint) from error
    if partial is not None and len(people.tracks) > 1:
        draw_people(video, size, people, summarize(people, size), athlete, partial.with_suffix(".png"))
    poses = enlarge(single_out(people, athlete, detector.skeleton, size, least=config.score), info.size)
    if config.repair:
        poses, repairs = repair(poses)
        log.info("%s: %s", view or video.stem, repairs)
    if config.smooth != "none":
        poses = smooth(poses, config.smooth, config.smooth_hz)  # type: ignore[arg-type]
    return replace(poses, view=view, source=Source(records.fingerprint(video), detector.name))


def detect_many(
    videos: Mapping[str, Path],
    *,
    config: DetectConfig | None = None,
    partials: Mapping[str, Path] | None = None,
    jobs: int = 1,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, Poses2D]]:
    """(view, poses) of several videos, `jobs` at a time, each as it is done; progress comes from all that run.

    One video keeps all cores busy; several at once help where decoding or a graphics card is what one waits for.
    Raises what went wrong with a video after all others are done, and anything else (a full disk, Ctrl-C) at once.
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


def detect_take(
    videos: Mapping[str, Path],
    sync: Sync,
    partials: Mapping[str, Path],
    *,
    config: DetectConfig | None = None,
    jobs: int = 1,
    on_progress: OnProgress | None = None,
) -> dict[str, Poses2D]:
    """The athlete in every view of a take; where it is close who that is, the views settle it together.

    partials  view -> the file that keeps its tracks; with it another choice needs no new detection
    """
    config = config or DetectConfig()
    found = dict(detect_many(videos, config=config, partials=partials, jobs=jobs, on_progress=on_progress))
    if config.person is None:
        for view, track in settle(videos, sync, partials).items():
            again = replace(config, person=track)
            found[view] = detect(videos[view], config=again, view=view, partial=partials[view])
    return found


def settle(videos: Mapping[str, Path], sync: Sync, partials: Mapping[str, Path]) -> dict[str, int]:
    """View -> the athlete's track, for the views of a take that all together decide otherwise than each alone."""
    from twoview.media.video import probe

    if len(videos) < 2:
        return {}
    everyone = {}
    for view, video in videos.items():
        kept = People(**records.read_npz(partials[view])[1])
        everyone[view] = join(kept), working_size(probe(video).size)
    together = choose_together(everyone, sync)
    return {view: track for view, track in together.items() if track != choose(*everyone[view])}


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) that pictures are looked at in: their own up to MOST_SIDE px, larger ones scaled down."""
    scale = min(1.0, MOST_SIDE / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def enlarge(poses: Poses2D, size: tuple[int, int]) -> Poses2D:
    """Poses found in scaled pictures, in px of the original ones."""
    if poses.size == size:
        return poses
    scale = np.array(size) / np.array(poses.size)
    return replace(poses, xy=(poses.xy + 0.5) * scale - 0.5, size=size)


def single_out(people: People, track: int, skeleton: Skeleton, size: tuple[int, int], *, least: float) -> Poses2D:
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
    video: Path,
    size: tuple[int, int],
    detector: Detector,
    config: DetectConfig,
    keeper: Keeper,
    frames_expected: int = 0,
    label: str = "detect",
    on_progress: OnProgress | None = None,
) -> People:
    """Everyone in every frame scaled to `size`, followed from search to search; continues what the keeper holds."""
    from twoview.media.video import decoded

    people, complete = keeper.load(len(detector.skeleton))
    if complete:
        return people
    every = config.people_every if isinstance(detector, TopDown) else 1
    known = len(people.time)
    follower = Follower(detector, people)
    follower.resume(every)
    pictures = decoded(video, start=float(people.time[-1]) if known else None, threads=max(cores() // 2, 1))
    room = threading.Semaphore(every)  # pictures in memory: those up to the next search, or read ahead of it
    source = ahead(searched(pictures, detector, every, after=people.time, size=size, on_drop=room.release), room)
    began = saved = clock.monotonic()
    try:
        for window in windows(source):
            follower.advance(window)
            keep_memory_low()
            now, done = clock.monotonic(), len(follower.time)
            if now - saved > config.save_every_s:
                keeper.save(follower.people(follower.searched), complete=False)
                saved = now
            speed = {"frames/s": (done - known) / max(now - began, 1e-6)}
            report(on_progress, Progress(label, done, max(frames_expected, done), "frames", speed))
        people = follower.people()
    except BaseException:
        if follower.searched > known:
            keeper.save(follower.people(follower.searched), complete=False)
        raise
    finally:
        source.close()
        follower.close()
    keeper.save(people, complete=True)
    return people


class Keeper:
    """The file with everyone's tracks, while detection runs and after. Without a path it keeps nothing."""

    def __init__(self, path: Path | None, video: Path, config: DetectConfig, detector: str) -> None:
        self.path = path
        shaping = {key: getattr(config, key) for key in ("people_every", "finder", "flip")}
        self._head = records.header(
            "people", inputs={"video": records.fingerprint(video)}, settings={"detector": detector, **shaping}
        )

    def load(self, joints: int) -> tuple[People, bool]:
        """What was kept for this video and these settings, and whether it is complete; nobody where nothing was."""
        if self.path is None or not self.path.exists() or not records.is_current(self.path, self._head):
            return People.none(joints), False
        try:
            head, arrays = records.read_npz(self.path)
        except FormatError:
            return People.none(joints), False
        return People(**arrays), bool(head.get("complete"))

    def save(self, people: People, *, complete: bool) -> None:
        """Write the tracks, whole or not at all."""
        if self.path is not None:
            records.write_npz(self.path, {**self._head, "complete": complete}, vars(people))
