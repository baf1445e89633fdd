"""The clocks of a session's take: by sound, by motion, or by hand, with the picture to trust them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twoview.config import SyncConfig
from twoview.errors import SessionError, SyncError
from twoview.media import video
from twoview.poses import Poses2D
from twoview.progress import OnProgress
from twoview.storage import records
from twoview.storage.session import Session, ViewFile
from twoview.synchronization import clock_graph
from twoview.timeline import Sync
from twoview.workflow import session as workflow_session

if TYPE_CHECKING:
    from twoview.synchronization import audio
    from twoview.synchronization import motion as synchronization_motion

_SLOW_RANGE = (1.0, 100.0)


@dataclass(frozen=True)
class Given:
    """What a person asks for or knows about a take's clocks. View name -> value, where it is about views.

    motion       by the athlete's motion, without sound; refine: by sound, with the offsets then set by motion
    offset       seconds that each view began after the reference
    at           seconds of each view's own clock at which one event is seen
    timestamps   CSV files with the capture time of every frame: one for each view in turn, or one for all
    capture_fps  frames a second at which slow motion was filmed, where the file does not say
    distance     meters from the source of the sound
    """

    motion: bool = False
    refine: bool = False
    offset: Mapping[str, float] = field(default_factory=dict)
    at: Mapping[str, float] = field(default_factory=dict)
    timestamps: tuple[Path, ...] = ()
    capture_fps: Mapping[str, float] = field(default_factory=dict)
    distance: Mapping[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """As plain values; files by their content."""
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in asdict(self).items()}
        return {**plain, "timestamps": [records.fingerprint(path) for path in self.timestamps]}


def sync_take(
    session: Session,
    take: str,
    *,
    config: SyncConfig | None = None,
    reference: str | None = None,
    given: Given | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Sync, bool]:
    """Relate the clocks of a take's views and draw sync.png. The flag says whether it was computed now.

    By sound; where there is none that can be relied on, by motion if every view is detected, which the warnings say.
    Where views are detected, what their motion says is put beside the sound's answer.
    """
    config, given, files = config or SyncConfig(), given or Given(), session.take(take)
    if len(files) < 2:
        raise SessionError(f"take {take!r} has one view, {next(iter(files))}", hint="twoview sync a.mp4 b.mp4")
    reference = reference or next(iter(files))
    _check_names(given, files, reference)
    poses, seen = _detections(session, take)
    settings = {**asdict(config), **given.settings, "reference": reference, "detections": seen}
    path, head = session.sync_path(take), workflow_session.sync_header(files, settings)
    if records.is_current(path, head):
        return records.load_as(path, Sync), False
    found, evidence = relate_views(files, poses, reference, config, given, on_progress)
    found = _with_warnings(found, _alike(files))
    workflow_session.save_sync(session, take, found, settings=settings)
    picture = path.with_suffix(".png")
    picture.unlink(missing_ok=True)
    if evidence is not None:
        from twoview.visualization import sync_plot

        sync_plot.draw_sync(found, evidence.relations, sync_plot.traces(evidence, poses), picture)
    return found, True


def relate_views(
    files: Mapping[str, ViewFile],
    poses: Mapping[str, Poses2D],
    reference: str,
    config: SyncConfig,
    given: Given,
    on_progress: OnProgress | None = None,
) -> tuple[Sync, audio.Evidence | synchronization_motion.Evidence | None]:
    """The sync of these views, and what it rests on (nothing where it was given by hand).

    poses  detections of the views that have been detected
    """
    from twoview.synchronization import audio
    from twoview.synchronization import motion as synchronization_motion

    paths = {view: workflow_session.present(file, view) for view, file in files.items()}
    stretch = _stretch(paths, given)
    if (given.motion or given.refine) and set(poses) != set(paths):
        lost = ", ".join(view for view in paths if view not in poses)
        raise SyncError(f"no detections of {lost}: motion cannot be compared", hint="twoview detect, then this again")
    by_hand = _by_hand(paths, reference, given, stretch)
    if by_hand is not None:
        _check_overlap(by_hand, paths)
        return by_hand, None
    evidence: audio.Evidence | synchronization_motion.Evidence
    warnings: tuple[str, ...] = ()
    if not given.motion:
        try:
            evidence = audio.relate(
                paths, reference=reference, distances=given.distance, stretch=stretch, config=config,
                on_progress=on_progress,
            )  # fmt: skip
            found = synchronization_motion.check(evidence.sync, poses, stretch=stretch, config=config)
            return (synchronization_motion.refined(found, poses, stretch=stretch) if given.refine else found), evidence
        except SyncError as error:
            if given.refine or set(poses) != set(paths):
                raise
            warnings = (f"by motion, since sound did not serve: {error.message}",)
    evidence = synchronization_motion.relate(
        poses, reference=reference, stretch=stretch, config=config, on_progress=on_progress
    )
    return _with_warnings(evidence.sync, warnings), evidence


def _by_hand(paths: Mapping[str, Path], reference: str, given: Given, stretch: Mapping[str, float]) -> Sync | None:
    from twoview.synchronization import manual

    if given.timestamps:
        logs = dict(zip(paths, given.timestamps * (len(paths) if len(given.timestamps) == 1 else 1), strict=True))
        frames = {view: video.timeline(path).seconds for view, path in paths.items()}
        return manual.by_timestamps(logs, frames, reference)
    if given.offset:
        return manual.by_offset(given.offset, reference, stretch=stretch)
    return manual.by_event(given.at, reference, stretch=stretch) if given.at else None


def _check_overlap(sync: Sync, paths: Mapping[str, Path]) -> None:
    """Every view has to share some time with the reference. Raises SyncError with both spans where one does not."""
    spans = {}
    for view, path in paths.items():
        seconds = video.timeline(path).seconds
        spans[view] = sync.to_session(view, seconds[[0, -1]])
    for view, (start, end) in spans.items():
        first, last = spans[sync.reference]
        if start >= last or end <= first:
            raise SyncError(
                f"{view} would last from {start:.2f} to {end:.2f} s, "
                f"and {sync.reference} from {first:.2f} to {last:.2f} s: "
                "no moment that both filmed",
                hint="session time = offset + view time: a positive offset is of a view that began later",
            )


def render_take(session: Session, take: str | None = None, *, on_progress: OnProgress | None = None) -> Path:
    """Write sync.mp4 beside a take's sync.json: all views side by side on the session clock, claps marked.

    take  default: the only one, or the newest
    """
    from twoview.visualization.side_by_side import render_sync

    name = take or (list(session.takes) or [""])[-1]
    found, files = workflow_session.load_sync(session, name), session.take(name)
    paths = {view: workflow_session.present(files[view], view) for view in found.views}
    path = session.sync_path(name).with_suffix(".mp4")
    return render_sync(paths, found, path, events=_claps(found, paths), on_progress=on_progress)


def _claps(sync: Sync, paths: Mapping[str, Path]) -> list[float]:
    """Session times of the sharpest sounds that the first view with sound heard; none without any."""
    from twoview.synchronization import audio

    for view, path in paths.items():
        try:
            return [float(t) for t in sync.to_session(view, audio.claps(audio.listen(path, view)))]
        except SyncError:
            continue
    return []


def _with_warnings(sync: Sync, warnings: tuple[str, ...]) -> Sync:
    return replace(sync, warnings=tuple(dict.fromkeys((*warnings, *sync.warnings))))


def _alike(files: Mapping[str, ViewFile]) -> tuple[str, ...]:
    """A warning for each two views that are one file."""
    return tuple(
        clock_graph.copies(first, second)
        for first, second in combinations(files, 2)
        if files[first].fingerprint == files[second].fingerprint
    )


def _stretch(paths: Mapping[str, Path], given: Given) -> dict[str, float]:
    """Seconds of each view's clock that one real second takes."""
    found = {}
    for view, path in paths.items():
        if view not in given.capture_fps:
            found[view] = video.slowdown(path)
            continue
        played = float(video.probe(path).rate)
        found[view] = given.capture_fps[view] / played
        if not _SLOW_RANGE[0] * 0.99 <= found[view] <= _SLOW_RANGE[1]:
            raise SyncError(
                f"{view} plays at {played:.4g} frames a second, and was filmed at {given.capture_fps[view]:g}?",
                hint="--capture-fps b=240 names the rate of filming: at least that of playing",
            )
    return found


def _check_names(given: Given, files: Mapping[str, ViewFile], reference: str) -> None:
    """Every view that is named has to be in the take, and by hand one way at a time with all that it needs."""
    if reference not in files:
        raise SyncError(f"reference {reference!r} is not among the views {', '.join(files)}", hint="--reference a")
    for values in (given.offset, given.at, given.capture_fps, given.distance):
        unknown = [view for view in values if view not in files]
        if unknown:
            raise SyncError(f"no view {unknown[0]!r} in this take; it has {', '.join(files)}", hint="--views a,b")
    ways = {"--motion": given.motion, "--refine": given.refine, "--offset": given.offset, "--at": given.at,
            "--timestamps": given.timestamps}  # fmt: skip
    asked = [name for name, value in ways.items() if value]
    if len(asked) > 1:
        raise SyncError(f"{' and '.join(asked)} are different ways to relate the clocks", hint="give one of them")
    others = [view for view in files if view != reference]
    if reference in given.offset:
        raise SyncError(f"{reference} is the reference: its offset is 0", hint=f"--offset {others[0]}=0.61")
    for name, values, needed in (("--offset", given.offset, others), ("--at", given.at, list(files))):
        missing = [view for view in needed if view not in values]
        if values and missing:
            raise SyncError(f"{name} is missing for {', '.join(missing)}", hint=f"{name} {missing[0]}=12.30")
    if len(given.timestamps) not in (0, 1, len(files)):
        raise SyncError(
            f"{len(given.timestamps)} files of capture times for {len(files)} views", hint="--timestamps a.csv,b.csv"
        )


def _detections(session: Session, take: str) -> tuple[dict[str, Poses2D], dict[str, str]]:
    """Poses of the views of a take that are detected and current, and the fingerprints of those files."""
    poses, seen = {}, {}
    for view, file in session.take(take).items():
        path = session.detection_path(take, view)
        if path.exists() and records.read_header(path)["inputs"] == {"video": file.fingerprint}:
            poses[view], seen[view] = records.load_as(path, Poses2D), records.fingerprint(path)
    return poses, seen
