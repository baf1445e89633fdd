"""The clocks of a take in a session: by sound, by motion, or by hand, with sync.png to check them by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from twoview.config import SyncConfig
from twoview.errors import FormatError, SessionError, SyncError, TwoViewError
from twoview.media.video import probe, read_slowdown, timeline
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session, ViewFile
from twoview.synchronization.audio import find_claps, heard_views, no_sound, read_sound, relate_sounds
from twoview.synchronization.audio_features import Sound
from twoview.synchronization.capture_times import by_phones_clocks
from twoview.synchronization.manual import by_event, by_offset, by_timestamps
from twoview.synchronization.motion import add_by_motion, compare_with_motion, refine_with_motion, relate_poses
from twoview.synchronization.several_views import Relation, copies_warning
from twoview.timeline import Sync
from twoview.visualization.sync_plot import draw_sync, joint_speed, loudness
from twoview.workers.places import Workers, open_place
from twoview.workers.tasks import Task, run_locked
from twoview.workflow.stages import add_videos, load_sync, present, remove_triangulated, save_sync, sync_header

log = logging.getLogger(__name__)

_DETECT_FIRST = "the take is kept: `twoview detect`, then `twoview sync --motion`"
_BY_MOTION = "by motion: `twoview sync a.mp4 b.mp4 --motion`, which asks for `twoview detect`"
_BY_HAND = "by hand: `twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10`"
_SLOWDOWNS = (1.0, 100.0)  # smallest and largest accepted


class NotDetectedError(SyncError):
    """Clocks by motion, the only way left or the one asked for, need detections that are not there."""


@dataclass(frozen=True)
class SyncOptions:
    """How a person wants the clocks of a take related, and what they know. View name -> value, where it is about views.

    motion       by the athlete's motion, without sound; refine: by sound, with the offsets then set by motion
    offset       seconds that each view began after the reference
    at           seconds of each view's own clock at which one event is seen
    timestamps   CSV files with the capture time of every frame: one for each view in turn, or one for all
    capture_fps  frames per second at which slow motion was filmed, where the file does not say
    distance     meters from the source of the sound
    track        number of the sound track, from 1, where the file has several
    """

    motion: bool = False
    refine: bool = False
    offset: Mapping[str, float] = field(default_factory=dict)
    at: Mapping[str, float] = field(default_factory=dict)
    timestamps: tuple[Path, ...] = ()
    capture_fps: Mapping[str, float] = field(default_factory=dict)
    distance: Mapping[str, float] = field(default_factory=dict)
    track: Mapping[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """As plain values; files by their content."""
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(self).items()}
        plain = {name: value for name, value in plain.items() if name != "track" or value}
        return {**plain, "timestamps": [records.fingerprint(path) for path in self.timestamps]}


def sync_take(
    session: Session,
    take: str,
    *,
    config: SyncConfig | None = None,
    reference: str | None = None,
    options: SyncOptions | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Sync, bool]:
    """Relate the clocks of a take's views and draw sync.png. The flag says whether they were computed now.

    By sound; where sound cannot be relied on, by motion if every view is detected, which a warning says. Where views
    are detected, a sync by sound is compared with the motion. Of three views and more, one without sound is related by
    motion to those that have it, and left out with a warning until it is detected, or given by hand.
    """
    with session.lock(take):
        return _sync_locked(session, take, config=config, reference=reference, options=options, on_progress=on_progress)


def sync_takes(
    session: Session,
    takes: Sequence[str],
    *,
    config: SyncConfig | None = None,
    reference: str | None = None,
    options: Callable[[str], SyncOptions] | None = None,
    workers: Workers | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[str, tuple[Sync, bool] | TwoViewError]]:
    """(take, what `sync_take` gives or what is wrong) of these takes, as they are done.

    options  of each take, by its name
    workers  who relates the clocks, a task for each take; default: this process
    """

    @contextmanager
    def task(take: str) -> Iterator[Task]:
        with session.lock(take):
            alone = session.alone(take)
            wanted = options(take) if options is not None else None
            arguments = {"session": alone, "take": take, "config": config, "reference": reference, "options": wanted}
            videos = (file.path for file in alone.take(take).values() if file.path.exists())
            yield Task(take, _sync_locked, arguments, needs=(session.folder, *videos))

    with open_place(workers, folder=session.folder) as place:
        yield from run_locked({take: task(take) for take in takes}, place, stage="sync", on_progress=on_progress)


def add_synchronized(
    folder: Path | str,
    videos: Sequence[Path],
    *,
    views: Sequence[str] | None = None,
    take: str | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Session, str]:
    """Put the videos of one take into the session, and relate its clocks by sound where that can be done.

    The take is kept without clocks where sound is not sufficient, which the log says: detection needs none.
    """
    session, name = add_videos(folder, videos, views=views, take=take)
    if given_by_hand(session, name) is None:
        try:
            sync_take(session, name, on_progress=on_progress)
        except SyncError as error:
            log.warning("%s is not synchronized yet: %s (`twoview sync` goes on after detection)", name, error.message)
    return session, name


def given_by_hand(session: Session, take: str) -> Sync | None:
    """The clocks of a take that a person gave, or asked to be related in another way than by default; None else.

    They are of the videos as they are now.
    """
    with suppress(SessionError, FormatError, KeyError, TypeError, AttributeError):
        sync = load_sync(session, take)
        known = records.read_header(session.sync_path(take))["settings"]
        first = next(iter(session.take(take)))
        if any(known.get(name) for name in SyncOptions().settings) or known.get("reference") != first:
            return sync
    return None


def _sync_locked(
    session: Session,
    take: str,
    *,
    config: SyncConfig | None,
    reference: str | None,
    options: SyncOptions | None,
    on_progress: OnProgress | None,
) -> tuple[Sync, bool]:
    config, options, files = config or SyncConfig(), options or SyncOptions(), session.take(take)
    if len(files) < 2:
        raise SessionError(f"take {take!r} has one view, {next(iter(files))}", hint="twoview sync a.mp4 b.mp4")
    default, reference = reference is None, reference or next(iter(files))
    _check_names(options, files, reference)
    detections, fingerprints = _detections(session, take)
    settings = {**asdict(config), **options.settings, "reference": reference, "detections": fingerprints}
    path, head = session.sync_path(take), sync_header(files, settings)
    picture, drawn = path.with_suffix(".png"), not (options.offset or options.at or options.timestamps)
    lost = drawn and not picture.exists() and all(file.path.exists() for file in files.values())
    if records.is_current(path, head) and not lost:
        known = records.load_as(path, Sync)
        if default or known.reference == reference:
            return known, False
    paths = {view: present(file, view) for view, file in files.items()}
    poses = {view: records.load_as(path, Poses2D) for view, path in detections.items()}
    sync, relations, sounds = _relate(
        paths, poses, reference, options, default=default, config=config, on_progress=on_progress
    )
    twins = [(a, b) for a, b in combinations(files, 2) if files[a].fingerprint == files[b].fingerprint]
    sync = _with_warnings(sync, tuple(copies_warning(*pair) for pair in twins))
    for view, file in files.items():
        present(file, view)  # still the same
    for stale in (picture, path.with_suffix(".mp4")):  # before the clocks that they show are replaced
        records.remove(stale)
    remove_triangulated(session, take, unless=sync)
    save_sync(session, take, sync, settings=settings)
    if relations:
        by_sound = {view: loudness(sound) for view, sound in sounds.items()}
        draw_sync(sync, relations, by_sound or {view: joint_speed(p) for view, p in poses.items()}, picture)
    return sync, True


def _relate(
    paths: Mapping[str, Path],
    poses: Mapping[str, Poses2D],
    reference: str,
    options: SyncOptions,
    *,
    default: bool,
    config: SyncConfig,
    on_progress: OnProgress | None,
) -> tuple[Sync, list[Relation], dict[str, Sound]]:
    """The sync of these views, the relations it rests on (none by hand), and the sounds (none by motion or by hand).

    poses    detections of the views that have been detected
    default  whether nobody named the reference: by sound it is then the first view that has sound
    """
    slowdown = _slowdowns(paths, options)
    if (options.motion or options.refine) and set(poses) != set(paths):
        missing = ", ".join(view for view in paths if view not in poses)
        raise NotDetectedError(
            f"no detections of {missing}: motion cannot be compared",
            hint=_DETECT_FIRST if options.motion else "`twoview sync a.mp4 b.mp4`, then `twoview detect`",
        )
    sync = _by_hand(paths, reference, options, slowdown)
    if sync is not None:
        rest = {view: path for view, path in paths.items() if view not in sync.clocks or view == reference}
        if len(rest) > 1:  # those that nobody gave
            by_sound = _by_sound(rest, reference, options, slowdown, config=config, on_progress=on_progress)[0]
            given = tuple(f"{view}: its clock is given by hand" for view in sync.views[1:])
            clocks = {**by_sound.clocks, **{view: sync.clocks[view] for view in sync.views[1:]}}
            sync = _with_warnings(replace(by_sound, clocks=clocks), given)
        _check_overlap(sync, {view: paths[view] for view in sync.views})
        return sync, [], {}
    warnings: tuple[str, ...] = ()
    if not options.motion:
        try:
            sync, relations, sounds = _by_sound(
                paths, reference, options, slowdown, default=default, config=config, on_progress=on_progress
            )
            sync = compare_with_motion(sync, poses, slowdown=slowdown, config=config)
            if options.refine:
                return refine_with_motion(sync, poses, slowdown=slowdown), relations, sounds
            for view in paths:
                if view not in sync.clocks:
                    sync = _without_sound(sync, view, poses, slowdown=slowdown, config=config)
            return sync, relations, sounds
        except SyncError as error:
            if options.refine:
                raise
            if set(poses) != set(paths):
                alone = error.hint.partition("\n")[2]
                hint = f"{_BY_MOTION}; or {_BY_HAND}" + (f"\n{alone}" if alone else "")
                said = by_phones_clocks(*_clocks_of_phones(paths), reference)
                raise NotDetectedError(error.message, hint=hint + (f"\n{said}" if said else "")) from error
            warnings = (f"by motion, since sound could not be used: {error.message}",)
    sync, relations = relate_poses(
        poses, reference=reference, slowdown=slowdown, config=config, on_progress=on_progress
    )  # fmt: skip
    return _with_warnings(sync, warnings), relations, {}


def _by_sound(
    paths: Mapping[str, Path],
    reference: str,
    options: SyncOptions,
    slowdown: Mapping[str, float],
    *,
    default: bool = False,
    config: SyncConfig,
    on_progress: OnProgress | None,
) -> tuple[Sync, list[Relation], dict[str, Sound]]:
    """The sync of the views that have sound, its relations and sounds.

    Raises SyncError where fewer than two have it, and where one lacks it that is the reference or is to be refined.
    """
    tracks = {view: number - 1 for view, number in options.track.items() if view in paths}
    sounds, without = heard_views(paths, slowdown=slowdown, tracks=tracks, on_progress=on_progress)
    if without and (len(sounds) < 2 or (reference in without and not default) or options.refine):
        raise no_sound(paths, sounds, without)
    if reference in without:
        reference = next(iter(sounds))
    distances = {view: far for view, far in options.distance.items() if view in sounds}
    sync, relations = relate_sounds(
        sounds, reference=reference, distances=distances, config=config, on_progress=on_progress
    )
    return _with_warnings(sync, tuple(error.message for error in without.values())), relations, sounds


def _without_sound(
    sync: Sync,
    view: str,
    poses: Mapping[str, Poses2D],
    *,
    slowdown: Mapping[str, float],
    config: SyncConfig,
) -> Sync:
    """The sync with one more view, by motion where it is detected; else, and where that fails, a warning about it."""
    if view not in poses or not any(other in poses for other in sync.views):
        alone = ",".join(sync.views)
        said = (
            f"{view} is not related: after `twoview detect`, `twoview sync` does it by motion; or give it by hand: "
            f"`twoview sync --offset {view}=0.61`; until then {alone} go on alone"
        )
        return _with_warnings(sync, (said,))
    try:
        found = add_by_motion(sync, view, poses, slowdown=slowdown, config=config)
    except SyncError as error:
        return _with_warnings(sync, (f"{error.message}; give it by hand: `twoview sync --offset {view}=0.61`",))
    return _with_warnings(found, (f"{view}: its clock is by motion, since it has no sound",))


def _clocks_of_phones(paths: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, float]]:
    """View -> when it was filmed by its phone's clock, and seconds that it lasts."""
    found = {view: probe(path) for view, path in paths.items()}
    return {view: info.filmed for view, info in found.items()}, {view: info.duration_s for view, info in found.items()}


def _by_hand(
    paths: Mapping[str, Path], reference: str, options: SyncOptions, slowdown: Mapping[str, float]
) -> Sync | None:
    if options.timestamps:
        files = options.timestamps * (len(paths) if len(options.timestamps) == 1 else 1)
        frames = {view: timeline(path).seconds for view, path in paths.items()}
        return by_timestamps(dict(zip(paths, files, strict=True)), frames, reference)
    if options.offset:
        return by_offset(options.offset, reference, slowdown=slowdown)
    return by_event(options.at, reference, slowdown=slowdown) if options.at else None


def _check_overlap(sync: Sync, paths: Mapping[str, Path]) -> None:
    """Raises SyncError where a view shares no time with the reference, with both time spans."""
    spans = {}
    for view, path in paths.items():
        seconds = timeline(path).seconds
        spans[view] = sync.to_session(view, seconds[[0, -1]])
    for view, (start, end) in spans.items():
        first, last = spans[sync.reference]
        if start >= last or end <= first:
            raise SyncError(
                f"{view} would last from {start:.2f} to {end:.2f} s, "
                f"and {sync.reference} from {first:.2f} to {last:.2f} s: "
                "no moment that both filmed",
                hint="session time = offset + view time: the offset of a view that began later is positive",
            )


def render_take(session: Session, take: str | None = None, *, on_progress: OnProgress | None = None) -> Path:
    """Write sync.mp4 beside a take's sync.json: all views side by side on the session clock, claps marked.

    take  default: the only one, or the newest
    """
    name = take or (list(session.takes) or [""])[-1]
    files = session.take(name)
    with session.lock(name):
        sync = load_sync(session, name)
        paths = {view: present(files[view], view) for view in sync.views}
        path = session.sync_path(name).with_suffix(".mp4")
        from twoview.visualization.side_by_side import render_sync  # a tenth of a second to import, seldom used

        return render_sync(paths, sync, path, events=_claps(sync, paths), on_progress=on_progress)


def _claps(sync: Sync, paths: Mapping[str, Path]) -> list[float]:
    """Session times of the sharpest sounds in the first view that has sound; none if no view has any."""
    for view, path in paths.items():
        try:
            return [float(t) for t in sync.to_session(view, find_claps(read_sound(path, view)))]
        except SyncError:
            continue
    return []


def _with_warnings(sync: Sync, warnings: tuple[str, ...]) -> Sync:
    return replace(sync, warnings=tuple(dict.fromkeys((*warnings, *sync.warnings))))


def _slowdowns(paths: Mapping[str, Path], options: SyncOptions) -> dict[str, float]:
    """Seconds of each view's clock that one real second takes."""
    found = {}
    for view, path in paths.items():
        if view not in options.capture_fps:
            found[view] = read_slowdown(path)
            continue
        played = float(probe(path).rate)
        found[view] = options.capture_fps[view] / played
        if not _SLOWDOWNS[0] * 0.99 <= found[view] <= _SLOWDOWNS[1]:
            raise SyncError(
                f"{view} plays at {played:.4g} frames per second; it was not filmed at {options.capture_fps[view]:g}",
                hint="--capture-fps b=240 is the rate of filming: the playback rate, or up to 100 times as much",
            )
    return found


def _check_names(options: SyncOptions, files: Mapping[str, ViewFile], reference: str) -> None:
    """Raises SyncError for unknown views, for several ways at once, and for views that a way by hand needs."""
    if reference not in files:
        raise SyncError(f"reference {reference!r} is not among the views {', '.join(files)}", hint="--reference a")
    for values in (options.offset, options.at, options.capture_fps, options.distance, options.track):
        unknown = [view for view in values if view not in files]
        if unknown:
            raise SyncError(f"no view {unknown[0]!r} in this take; it has {', '.join(files)}", hint="--views a,b")
    ways = {"--motion": options.motion, "--refine": options.refine, "--offset": options.offset, "--at": options.at,
            "--timestamps": options.timestamps}  # fmt: skip
    asked = [name for name, value in ways.items() if value]
    if len(asked) > 1:
        raise SyncError(f"{' and '.join(asked)} are different ways to relate the clocks", hint="give one of them")
    others = [view for view in files if view != reference]
    if reference in options.offset:
        raise SyncError(f"{reference} is the reference: its offset is 0", hint=f"--offset {others[0]}=0.61")
    missing = [view for view in files if view not in options.at]
    if options.at and (reference in missing or len(options.at) < 2):  # a view more or less is related by sound
        raise SyncError(f"--at is missing for {', '.join(missing)}", hint=f"--at {missing[0]}=12.30")
    if len(options.timestamps) not in (0, 1, len(files)):
        raise SyncError(
            f"{len(options.timestamps)} files of capture times for {len(files)} views", hint="--timestamps a.csv,b.csv"
        )


def _detections(session: Session, take: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Files with the poses of the views of a take that are detected and current, and their fingerprints."""
    paths, seen = {}, {}
    for view, file in session.take(take).items():
        path = session.detection_path(take, view)
        if path.exists() and records.read_header(path)["inputs"] == {"video": file.fingerprint}:
            paths[view], seen[view] = path, records.fingerprint(path)
    return paths, seen
