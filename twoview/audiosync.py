"""Clocks from sound: the files' sound tracks are compared in pairs, and all views are brought onto one clock.

What is compared is heard sound, so a view that stood 3 m farther from it seems 9 ms late: `distances` takes that off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from twoview import video
from twoview.config import SyncConfig
from twoview.errors import SyncError, VideoError
from twoview.progress import OnProgress, Progress, report
from twoview.soundfeatures import Sound
from twoview.soundmatch import Match, match
from twoview.timeline import ClockMap, ClockQuality, Sync

RATE = 16000  # samples a second that are compared: nothing above 7 kHz survives phones' codecs reliably
SPEED_OF_SOUND = 343.0  # m/s at 20 degrees Celsius


@dataclass(frozen=True, eq=False)
class Heard:
    """One view's sound: sample 0 was heard at `start_s` on the view's clock. view seconds = start_s + stretch * own."""

    name: str
    sound: Sound
    start_s: float
    stretch: float = 1.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """A sync with what it rests on: the views' sounds and the match of every pair (first view, second view)."""

    sync: Sync
    heard: Mapping[str, Heard] = field(default_factory=dict)
    matches: Mapping[tuple[str, str], Match] = field(default_factory=dict)


def sync(
    a: Path | str,
    b: Path | str,
    *more: Path | str,
    names: Sequence[str] | None = None,
    reference: str | None = None,
    distances: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Sync:
    """How the clocks of two or more videos of one event relate, from their sound.

    names      of the views; default: the files' stems
    reference  the view whose clock is the session's; default: the first
    distances  metres from the source of the sound to each view, where they are known

    Raises SyncError, with the reason, rather than giving an offset that cannot be relied on.
    """
    paths = [Path(path) for path in (a, b, *more)]
    views = tuple(names) if names else view_names(paths)
    evidence = relate(
        dict(zip(views, paths, strict=True)),
        reference=reference, distances=distances, config=config, on_progress=on_progress,
    )  # fmt: skip
    return evidence.sync


def view_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The files' stems. Raises SyncError where two are alike."""
    names = tuple(path.stem for path in paths)
    if len(set(names)) < len(names):
        raise SyncError(f"two files are called {names[0]}", hint="name the views: --views a,b")
    return names


def relate(
    videos: Mapping[str, Path],
    *,
    reference: str | None = None,
    distances: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Evidence:
    """`sync` of view name -> file, with the evidence that `plots.draw_sync` shows."""
    config = config or SyncConfig()
    reference = _known(reference, videos)
    heard: dict[str, Heard] = {}
    for done, (name, path) in enumerate(videos.items()):
        report(on_progress, Progress("listen", done, len(videos), "files"))
        heard[name] = listen(path, name)
    report(on_progress, Progress("listen", len(videos), len(videos), "files"))
    pairs = list(combinations(heard, 2))
    matches: dict[tuple[str, str], Match] = {}
    for done, (first, second) in enumerate(pairs):
        report(on_progress, Progress("compare", done, len(pairs), "pairs"))
        matches[first, second] = match(heard[first].sound, heard[second].sound, config)
    report(on_progress, Progress("compare", len(pairs), len(pairs), "pairs"))
    return Evidence(_solved(heard, matches, videos, reference, distances or {}), heard, matches)


def listen(path: Path | str, name: str = "") -> Heard:
    """The sound of a file on the clock of its frames. Raises SyncError if there is none."""
    try:
        track = video.audio(path, rate=RATE)
    except VideoError as error:
        raise SyncError(error.message, hint=_OTHER_WAYS) from error
    return Heard(name, Sound.of(track.samples, track.rate), track.start_s, warnings=track.warnings)


_OTHER_WAYS = (
    "relate the clocks by motion after `twoview detect`: twoview sync --motion; "
    "or by hand: twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10"
)


def _solved(
    heard: Mapping[str, Heard], matches: Mapping[tuple[str, str], Match], videos: Mapping[str, Path], reference: str,
    distances: Mapping[str, float],
) -> Sync:  # fmt: skip
    clocks, quality = {reference: ClockMap()}, {}
    warnings: list[str] = []
    for (first, second), found in matches.items():
        if reference not in (first, second):
            continue
        if found.refusal:
            raise SyncError(f"{first} and {second} cannot be related by sound: {found.refusal}", hint=_OTHER_WAYS)
        clock = on_view_clocks(found.clock, heard[first], heard[second], distances)
        if second == reference:
            clock = inverse(clock)
        view = second if first == reference else first
        clocks[view] = clock
        quality[view] = quality_of(found)
    return Sync(reference, clocks, "sound", quality, tuple(warnings))


def on_view_clocks(clock: ClockMap, a: Heard, b: Heard, distances: Mapping[str, float]) -> ClockMap:
    """From a map between two arrays of sound to one between the views' clocks, the way of the sound taken off."""
    late_a, late_b = (distances.get(view.name, 0.0) / SPEED_OF_SOUND for view in (a, b))
    rate = a.stretch * clock.rate / b.stretch
    return ClockMap(a.start_s - late_a + a.stretch * clock.offset_s - rate * (b.start_s - late_b), rate)


def inverse(clock: ClockMap) -> ClockMap:
    """The map the other way."""
    return ClockMap(-clock.offset_s / clock.rate, 1 / clock.rate)


def quality_of(found: Match) -> ClockQuality:
    """What a match says about its own reliability."""
    best = found.fits[0]
    windows = int(best.used.sum()), len(best.used)
    return ClockQuality(
        found.confidence, best.offset_se_s, best.drift_se_ppm, found.overlap_s, windows, best.residual_s
    )


def _known(reference: str | None, videos: Mapping[str, Path]) -> str:
    if reference is None:
        return next(iter(videos))
    if reference not in videos:
        raise SyncError(f"reference {reference!r} is not among the views {', '.join(videos)}", hint="--reference a")
    return reference
