"""From a video to the athlete's 2D poses: find everyone, follow them through the whole clip, then choose.

Decoding and the search for people run in a thread of their own, the keypoint network on all processor cores. What was
found is saved while it runs, so that an interrupted run continues where it stopped and ends in the same arrays.
"""

from __future__ import annotations

import logging
import queue
import threading
import time as clock
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from twoview import records
from twoview.choosing import choose, choose_together, summarise
from twoview.config import DetectConfig
from twoview.detectors import Detector, TopDown, build
from twoview.errors import FormatError
from twoview.following import Follower, Picture
from twoview.machine import cores, keep_memory_low
from twoview.poses import Poses2D, Source
from twoview.progress import OnProgress, Progress, report
from twoview.repair import repair, smooth
from twoview.skeleton import Skeleton
from twoview.thumbnails import draw_people
from twoview.timeline import Sync
from twoview.tracking import People, join

if TYPE_CHECKING:
    from twoview.pixels import Stored

Array = np.ndarray
T = TypeVar("T")

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
    from twoview.video import probe

    config = config or DetectConfig()
    video = Path(video)
    info = probe(video)
    keep_memory_low()
    detector = build(config.detector, device=config.device, finder=config.finder, flip=config.flip)
    keeper = Keeper(partial, video, config, detector.name)
    size = working_size(info.size)
    label = f"detect {view or video.stem}"
    people = join(find_people(video, size, detector, config, keeper, info.frames, label, on_progress))
    athlete = choose(people, size, config.person)
    if partial is not None and len(people.tracks) > 1:
        draw_people(video, size, people, summarise(people, size), athlete, partial.with_suffix(".png"))
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
    """
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        running = {
            pool.submit(
                detect, video, config=config, view=view, partial=(partials or {}).get(view), on_progress=on_progress
            ): view
            for view, video in videos.items()
        }
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            for waiting in running:
                waiting.cancel()


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
    from twoview.video import probe

    config = config or DetectConfig()
    found = dict(detect_many(videos, config=config, partials=partials, jobs=jobs, on_progress=on_progress))
    if config.person is not None or len(found) < 2:
        return found
    everyone = {}
    for view, video in videos.items():
        kept = People(**records.read_npz(partials[view])[1])
        everyone[view] = join(kept), working_size(probe(video).size)
    for view, track in choose_together(everyone, sync).items():
        if track != choose(*everyone[view]):
            again = replace(config, person=track)
            found[view] = detect(videos[view], config=again, view=view, partial=partials[view])
    return found


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
    from twoview.video import decoded

    people, complete = keeper.load(len(detector.skeleton))
    if complete:
        return people
    every = config.people_every if isinstance(detector, TopDown) else 1
    known = len(people.time)
    follower = Follower(detector, people)
    follower.resume(every)
    pictures = decoded(video, start=float(people.time[-1]) if known else None, threads=max(cores() // 2, 1))
    room = threading.Semaphore(every)  # pictures in memory: those up to the next search, or read ahead of it
    source = _ahead(_searched(pictures, detector, every, after=people.time, size=size, on_drop=room.release), room)
    began = saved = clock.monotonic()
    try:
        for window in _windows(source):
            follower.advance(window)
            for picture in window:
                picture.drop()
            keep_memory_low()
            now, done = clock.monotonic(), len(follower.time)
            if now - saved > config.save_every_s:
                keeper.save(follower.people(follower.searched), complete=False)
                saved = now
            speed = {"frames/s": (done - known) / max(now - began, 1e-6)}
            report(on_progress, Progress(label, done, max(frames_expected, done), "frames", speed))
    except BaseException:
        if follower.searched > known:
            keeper.save(follower.people(follower.searched), complete=False)
        raise
    finally:
        source.close()
        follower.close()
    people = follower.people()
    keeper.save(people, complete=True)
    return people


class Keeper:
    """The file with everyone's tracks, while detection runs and after. Without a path it keeps nothing."""

    def __init__(self, path: Path | None, video: Path, config: DetectConfig, detector: str) -> None:
        self.path = path
        shaping = {key: value for key, value in asdict(config).items() if key in ("people_every", "finder", "flip")}
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


def _searched(
    pictures: Iterable[Stored],
    detector: Detector,
    every: int,
    *,
    after: Array,
    size: tuple[int, int],
    on_drop: Callable[[], object],
) -> Iterator[Picture]:
    """Frames later than those in `after` (T,), every `every`-th of the clip with the people found in it."""
    number, last = len(after), float(after[-1]) if len(after) else -np.inf
    for picture in pictures:
        if picture.time <= last:
            continue
        found = None
        if number % every == 0:
            find = detector.find if isinstance(detector, TopDown) else detector
            found = find(picture.rgb(size))
        yield Picture(picture.kept(size), found, on_drop)
        number += 1


def _windows(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Runs of frames that each end with a searched one; the clip's last run may not."""
    window: list[Picture] = []
    for picture in pictures:
        window.append(picture)
        if picture.found is not None:
            yield window
            window = []
    if window:
        yield window


def _ahead(items: Iterable[T], room: threading.Semaphore) -> Generator[T, None, None]:
    """The same items, made by a thread that goes on as long as there is room; who takes an item makes room again."""
    waiting: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            iterator = iter(items)
            while not stop.is_set():
                if room.acquire(timeout=0.1):
                    waiting.put((True, next(iterator)))
        except StopIteration:
            waiting.put((False, None))
        except BaseException as error:  # handed to the thread that waits for the items
            waiting.put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, value = waiting.get()
            if more:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
