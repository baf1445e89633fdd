"""Clocks from sound: the files' sound tracks are compared in pairs, and all views are brought onto one clock.

What is compared is heard sound, so a view that stood 3 m farther from it seems 9 ms late: `distances` takes that off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from scipy.ndimage import maximum_filter1d

from twoview.config import SyncConfig
from twoview.errors import SyncError, VideoError
from twoview.media.audio import audio_blocks, damage_warnings
from twoview.media.containers import Damage
from twoview.media.video import slowdown
from twoview.progress import OnProgress, Progress, report
from twoview.synchronization import clock_graph
from twoview.synchronization.audio_features import Sound
from twoview.synchronization.audio_matching import Match, match
from twoview.synchronization.clock_graph import Relation
from twoview.timeline import ClockMap, ClockQuality, Sync

RATE = 16000  # samples a second that are compared: nothing above 7 kHz survives phones' codecs reliably
_CLAP_HOP_S = 0.005
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
    """A sync with what it rests on: the views' sounds, and what every pair of views says, also those not relied on."""

    sync: Sync
    heard: Mapping[str, Heard] = field(default_factory=dict)
    relations: tuple[Relation, ...] = ()


def sync(
    a: Path | str,
    b: Path | str,
    *more: Path | str,
    names: Sequence[str] | None = None,
    reference: str | None = None,
    distances: Mapping[str, float] | None = None,
    stretch: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Sync:
    """How the clocks of two or more videos of one event relate, from their sound.

    names      of the views; default: the files' stems
    reference  the view whose clock is the session's; default: the first
    distances  meters from the source of the sound to each view, where they are known
    stretch    seconds of a view's clock that one real second takes, for slow motion: 8 for 240 frames a second
               played at 30; default: what the file says

    Raises SyncError, with the reason, rather than giving an offset that cannot be relied on.
    """
    paths = [Path(path) for path in (a, b, *more)]
    views = tuple(names) if names else view_names(paths)
    evidence = relate(
        dict(zip(views, paths, strict=True)),
        reference=reference, distances=distances, stretch=stretch, config=config, on_progress=on_progress,
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
    stretch: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Evidence:
    """`sync` of view name -> file, with the evidence that `plots.draw_sync` shows."""
    config = config or SyncConfig()
    reference = _known(reference, videos)
    heard: dict[str, Heard] = {}
    for done, (name, path) in enumerate(videos.items()):
        report(on_progress, Progress("listen", done, len(videos), "files"))
        slow = (stretch or {}).get(name) or slowdown(path)
        heard[name] = listen(path, name, stretch=slow)
    report(on_progress, Progress("listen", len(videos), len(videos), "files"))
    pairs = list(combinations(heard, 2))
    relations: list[clock_graph.Relation] = []
    said = [f"{view.name}: {sentence}" for view in heard.values() for sentence in view.warnings]
    for done, (first, second) in enumerate(pairs):
        report(on_progress, Progress("compare", done, len(pairs), "pairs"))
        found = match(heard[first].sound, heard[second].sound, config)
        relations.append(relation(found, heard[first], heard[second], distances or {}))
        if found.copies:
            said.append(clock_graph.copies(first, second))
    report(on_progress, Progress("compare", len(pairs), len(pairs), "pairs"))
    sync = clock_graph.solve(relations, reference, "sound", hint=OTHER_WAYS, warnings=said)
    return Evidence(sync, heard, tuple(relations))


def listen(path: Path | str, name: str = "", *, stretch: float = 1.0) -> Heard:
    """The sound of a file on the clock of its frames, as it was in real time. Raises SyncError if there is none.

    stretch  seconds of the file that one real second takes: the sound of slow motion is slowed with its pictures
    """
    rate, damage = round(RATE / stretch), Damage()
    try:
        blocks = audio_blocks(path, rate=rate, damage=damage)
        first = next(blocks)
        sound = Sound((block.samples for block in chain([first], blocks)), RATE)
    except VideoError as error:
        raise SyncError(error.message, hint=OTHER_WAYS) from error
    return Heard(name, sound, first.start_s, RATE / rate, damage_warnings(damage))


def claps(heard: Heard) -> Array:
    """Seconds (N,) on the view's clock at which the sharpest sounds begin: claps, hits, bounces; at most 40.

    Sharp is what rises sixfold over the 50 ms before within 10 ms, and is among the loudest.
    """
    hop = round(_CLAP_HOP_S * heard.sound.rate)
    level = heard.sound.each(hop, lambda rows: np.abs(rows).max(axis=1))
    count = len(level)
    before = np.roll(maximum_filter1d(level, 10, origin=4), 2) if count > 20 else level  # of the hops up to two ago
    sharp = np.flatnonzero((level > 6 * before) & (level > 0.3 * level.max(initial=0)) & (np.arange(count) > 12))
    first = sharp[np.diff(sharp, prepend=-1000) > 0.2 / _CLAP_HOP_S]
    loudest = np.sort(first[np.argsort(-level[first])[:40]])
    return heard.start_s + heard.stretch * loudest * hop / heard.sound.rate


OTHER_WAYS = (
    "relate the clocks by motion after `twoview detect`: twoview sync --motion; "
    "or by hand: twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10"
)


def relation(found: Match, a: Heard, b: Heard, distances: Mapping[str, float] | None = None) -> Relation:
    """A match of two sounds as a relation of the views' clocks."""
    clock = on_view_clocks(found.clock, a, b, distances or {})
    if not found.fits:
        return Relation(a.name, b.name, clock, ClockQuality(found.confidence), found.refusal or "nothing in common")
    best = found.fits[0]
    line = best.clock.to_session(best.time) - best.time
    return Relation(
        a.name, b.name, clock, quality_of(found), found.refusal, b.start_s + b.stretch * sum(found.overlap) / 2,
        b.start_s + b.stretch * best.time, a.stretch * (best.delay - line), best.used,
        a.start_s + a.stretch * found.lags - clock.rate * b.start_s, found.heights,
    )  # fmt: skip


def on_view_clocks(clock: ClockMap, a: Heard, b: Heard, distances: Mapping[str, float]) -> ClockMap:
    """From a map between two arrays of sound to one between the views' clocks, the way of the sound taken off."""
    late_a, late_b = (distances.get(view.name, 0.0) / SPEED_OF_SOUND for view in (a, b))
    rate = a.stretch * clock.rate / b.stretch
    return ClockMap(a.start_s - late_a + a.stretch * clock.offset_s - rate * (b.start_s - late_b), rate)


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
