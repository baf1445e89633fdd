"""Clocks from sound: the sound tracks of all pairs of views are compared, and one clock is found for all views.

Sound arrives later at a view that is farther from its source: 3 m more are 9 ms. `distances` takes that off; without
them the clocks are known to the offset of the sound and an allowance for its way, however sharp the sound is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from scipy.ndimage import maximum_filter1d

from twoview.config import SyncConfig
from twoview.errors import SyncError, VideoError
from twoview.media.audio import audio_blocks, sound_tracks
from twoview.media.containers import Damage
from twoview.media.video import read_slowdown
from twoview.progress import OnProgress, Progress, report
from twoview.synchronization import several_views
from twoview.synchronization.audio_clocks import SPEED_OF_SOUND, match_sounds
from twoview.synchronization.audio_features import Sound, prepare
from twoview.synchronization.several_views import Relation
from twoview.timeline import HALF_FRAME_S, Sync, probability_within

RATE = 16000  # samples per second that are compared: nothing above 7 kHz survives phones' codecs reliably
_CLAP_HOP_S = 0.005
_DISTANCE_ERROR_M = 0.5  # of a distance that a person gives
_OTHER_WAYS = (
    "relate the clocks by motion: `twoview sync a.mp4 b.mp4 --motion`, which asks for `twoview detect`; "
    "or by hand: `twoview sync a.mp4 b.mp4 --at a=12.30 --at b=4.10`"
)


def sync(
    a: Path | str,
    b: Path | str,
    *more: Path | str,
    names: Sequence[str] | None = None,
    reference: str | None = None,
    distances: Mapping[str, float] | None = None,
    slowdown: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> Sync:
    """How the clocks of two or more videos of one event relate, from their sound.

    names      of the views; default: the files' stems
    reference  the view whose clock is the session's; default: the first
    distances  meters from the source of the sound to each view, where they are known
    slowdown   seconds of a view's clock that one real second takes, for slow motion: 8 for 240 frames per second played
               at 30; default: what the file says

    Raises SyncError, with the reason, where no offset can be relied on.
    """
    paths = [Path(path) for path in (a, b, *more)]
    views = list(names) if names else [path.stem for path in paths]
    if len(set(views)) < len(views):
        raise SyncError(f"two views are called {max(views, key=views.count)}", hint="name the views: names=['a', 'b']")
    reference = reference or views[0]
    if reference not in views:
        raise SyncError(
            f"reference {reference!r} is not among the views {', '.join(views)}", hint="give the name of one of them"
        )
    sounds = read_sounds(dict(zip(views, paths, strict=True)), slowdown=slowdown, on_progress=on_progress)
    return relate_sounds(
        sounds, reference=reference, distances=distances, config=config, on_progress=on_progress
    )[0]  # fmt: skip


def read_sounds(
    videos: Mapping[str, Path],
    *,
    slowdown: Mapping[str, float] | None = None,
    tracks: Mapping[str, int] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Sound]:
    """The sound of every view (name -> file), see `read_sound`; tracks: view -> number of its sound track, from 0.

    Raises SyncError where one has none.
    """
    sounds, without = heard_views(videos, slowdown=slowdown, tracks=tracks, on_progress=on_progress)
    if without:
        raise no_sound(videos, sounds, without)
    return sounds


def heard_views(
    videos: Mapping[str, Path],
    *,
    slowdown: Mapping[str, float] | None = None,
    tracks: Mapping[str, int] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[dict[str, Sound], dict[str, SyncError]]:
    """As `read_sounds`: the sounds of the views that have one, and why the others have none."""
    sounds: dict[str, Sound] = {}
    without: dict[str, SyncError] = {}
    for done, (name, path) in enumerate(videos.items()):
        report(on_progress, Progress("read sound", done, len(videos), "files"))
        slow, track = (slowdown or {}).get(name) or read_slowdown(path), (tracks or {}).get(name)
        try:
            sounds[name] = read_sound(path, name, slowdown=slow, track=track)
        except SyncError as error:
            without[name] = error
    report(on_progress, Progress("read sound", len(videos), len(videos), "files"))
    return sounds, without


def no_sound(videos: Mapping[str, Path], sounds: Mapping[str, Sound], without: Mapping[str, SyncError]) -> SyncError:
    """The error about views without sound, beside those that have it."""
    if len(without) == 1 and len(sounds) < 2:
        return next(iter(without.values()))
    heard = " ".join(str(videos[name]) for name in sounds)
    return SyncError(
        "; ".join(error.message for error in without.values())
        + (f"; {' and '.join(sounds)} have sound" if sounds else ""),
        hint=_OTHER_WAYS + (f"\nor those with sound alone: `twoview sync {heard}`" if len(sounds) > 1 else ""),
    )


def read_sound(path: Path | str, name: str = "", *, slowdown: float = 1.0, track: int | None = None) -> Sound:
    """The sound of a file in real time, on the clock of its frames. Raises SyncError if there is none.

    slowdown  seconds of the file that one real second takes: the sound of slow motion is slowed like its pictures
    track     number of the sound track, from 0; by default the first that is not silent
    """
    rate, damage = round(RATE / slowdown), Damage()
    try:
        blocks = audio_blocks(path, rate=rate, damage=damage, track=track)
        first = next(blocks)
        sound = prepare((block.samples for block in chain([first], blocks)), RATE)
    except VideoError as error:
        raise SyncError(error.message, hint=_OTHER_WAYS) from error
    warnings = (f"{damage.lost} damaged pieces of the sound were replaced with silence",) if damage.lost else ()
    if track is None and (chosen := str(sound_tracks(path))):
        warnings = (*warnings, chosen)
    return replace(sound, name=name, start_s=first.start_s, slowdown=RATE / rate, warnings=warnings)


def relate_sounds(
    sounds: Mapping[str, Sound],
    *,
    reference: str,
    distances: Mapping[str, float] | None = None,
    config: SyncConfig | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Sync, list[Relation]]:
    """The clocks of all views, and the relations of all pairs that they rest on, including those that were refused.

    distances  meters from the source of the sound to each view

    Raises SyncError where distances are given and one is missing.
    """
    config, distances = config or SyncConfig(), distances or {}
    missing = [view for view in sounds if view not in distances]
    if distances and missing:
        raise SyncError(
            f"the distance of {', '.join(missing)} is missing: only differences of distance delay the sound",
            hint=f"--distance {','.join(f'{view}=3' for view in sounds)}, with the meters to the source of the sound",
        )
    pairs = list(combinations(sounds.values(), 2))
    relations = []
    for done, (first, second) in enumerate(pairs):
        report(on_progress, Progress("compare sound", done, len(pairs), "pairs"))
        relations.append(match_sounds(first, second, distances=distances, config=config))
    report(on_progress, Progress("compare sound", len(pairs), len(pairs), "pairs"))
    warnings = [f"{sound.name}: {warning}" for sound in sounds.values() for warning in sound.warnings]
    sync = several_views.solve(relations, reference, "sound", hint=_OTHER_WAYS, warnings=warnings)
    way_m = 2**0.5 * _DISTANCE_ERROR_M if distances else config.sound_way_m
    return _with_travel(sync, way_m / SPEED_OF_SOUND, sounds[reference].slowdown), relations


def _with_travel(sync: Sync, travel_s: float, slowdown: float) -> Sync:
    """The sync with the allowance for the way of the sound, real seconds, in the errors and confidences of its views.

    slowdown  seconds of the session that one real second takes
    """
    quality = {}
    for view, known in sync.quality.items():
        sure = probability_within(HALF_FRAME_S, math.hypot(known.offset_se_s / slowdown, travel_s / 2))
        quality[view] = replace(known, confidence=known.confidence * sure, travel_s=slowdown * travel_s)
    return replace(sync, quality=quality)


def find_claps(sound: Sound) -> Array:
    """Seconds (N,) on the view's clock at which the sharpest sounds begin: claps, hits, bounces; at most 40.

    A sound is sharp if it rises sixfold over the 50 ms before within 10 ms, and is among the loudest.
    """
    hop = round(_CLAP_HOP_S * sound.rate)
    level = sound.per_hop(hop, lambda rows: np.abs(rows).max(axis=1))
    count = len(level)
    before = np.roll(maximum_filter1d(level, 10, origin=4), 2) if count > 20 else level  # of the hops up to two ago
    sharp = np.flatnonzero((level > 6 * before) & (level > 0.3 * level.max(initial=0)) & (np.arange(count) > 12))
    first = sharp[np.diff(sharp, prepend=-1000) > 0.2 / _CLAP_HOP_S]
    loudest = np.sort(first[np.argsort(-level[first])[:40]])
    claps: Array = sound.start_s + sound.slowdown * loudest * hop / sound.rate
    return claps
