"""Video files as phones write them: upright frames at their true times, and sound on the same clock.

A time is a frame's presentation time in the file, never its number over a rate: phones change their rate, start their
streams at other times than 0, and cut with edit lists. Frames are streamed, so memory does not grow with the length.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import VideoError
from twoview.media import containers
from twoview.media.audio import Audio, audio
from twoview.media.containers import Damage
from twoview.media.pixels import Stored, shown_as
from twoview.media.writer import VideoWriter
from twoview.timeline import Timeline

__all__ = ["Audio", "Damage", "Frame", "VideoInfo", "VideoWriter", "audio", "decoded", "frames", "probe", "timeline"]

log = logging.getLogger(__name__)

_CUT_S = 0.5  # a stream whose last frame is this much before the end that the file promises was cut off
_SLOW = 1.1  # filmed at more than this many times the rate it plays at is slow motion
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions of ITU-T H.273 that need tone mapping to look right
_PLAY = "play it; if that works, re-encode it with any video program"


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, without decoding it all.

    size           (width, height) of the upright picture in pixels
    rate           mean frames a second; frames may come at uneven times, see `timeline`
    duration_s     from the first frame to the end; frames is an estimate
    rotation       degrees counterclockwise that make the stored picture upright: 0, 90, 180 or 270
    audio_start_s  when the first sound was heard, on the clock of the frames; NaN without sound
    warnings       plain sentences about what is unusual
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    duration_s: float
    frames: int
    rotation: int
    codec: str
    has_audio: bool
    audio_start_s: float = math.nan
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright picture. time: presentation time in seconds; rgb (H, W, 3) uint8."""

    time: float
    rgb: Array


def probe(path: Path | str) -> VideoInfo:
    """Size, rate, length, rotation and sound of a file. Raises VideoError if it is not a video that can be decoded."""
    path = Path(path)
    with containers.opened(path) as container:
        stream = containers.video_stream(container, path)
        first = next(containers.pictures(container, stream), None)
        if first is None:
            raise VideoError(f"{path} has no frame that can be decoded", hint=_PLAY)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise VideoError(f"{path} names no frame rate", hint="re-encode it with any video program")
        turned = shown_as(first)[0] == 0
        duration = containers.promised_end(container, stream) - (stream.start_time or 0) * stream.time_base
        heard = _first_sound(path)
        return VideoInfo(
            path=path,
            size=(first.height, first.width) if turned else (first.width, first.height),
            rate=Fraction(rate),
            duration_s=float(duration),
            frames=stream.frames or round(duration * rate),
            rotation=round(first.rotation / 90) % 4 * 90,
            codec=stream.codec_context.name,
            has_audio=heard is not None,
            audio_start_s=math.nan if heard is None else heard,
            warnings=tuple(_unusual(container, stream, first)),
        )


def frames(
    path: Path | str,
    *,
    start: float | None = None,
    end: float | None = None,
    size: tuple[int, int] | None = None,
    on_damage: Callable[[Damage], None] | None = None,
) -> Iterator[Frame]:
    """Upright frames with their times, from `start` to `end` seconds (both included), one at a time.

    size       (width, height) to scale the upright picture to while decoding, or None for its own
    on_damage  called once at the end if frames could not be decoded (they are left out) or the file was cut off

    Raises VideoError if nothing can be decoded.
    """
    for picture in decoded(path, start=start, end=end, on_damage=on_damage):
        yield Frame(picture.time, picture.rgb(size))


def decoded(
    path: Path | str,
    *,
    start: float | None = None,
    end: float | None = None,
    threads: int = 0,
    on_damage: Callable[[Damage], None] | None = None,
) -> Iterator[Stored]:
    """The same as `frames`, as the decoder gives them: for those who keep many and look at parts.

    threads  of the decoder, each of which keeps a picture or two; 0: as many as the machine has cores
    """
    path = Path(path)
    with containers.opened(path) as container:
        stream = containers.video_stream(container, path)
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        if start is not None:
            containers.seek(container, stream, start)
        counter = containers.Counter()
        last, matrix = -math.inf, None
        for picture in containers.pictures(container, stream, counter):
            # Of the first only: a frame whose side data was asked for stays in memory until the garbage collector runs.
            matrix = matrix or shown_as(picture)
            if picture.time <= last:
                continue  # two pictures at one time cannot be told apart
            last = picture.time
            if end is not None and last > end + 1e-6:
                break
            if start is None or last >= start - 1e-6:
                yield Stored(last, picture, matrix)
        else:
            if last == -math.inf and start is None:
                raise VideoError(f"{path} has no frame that can be decoded", hint=_PLAY)
            if -math.inf < last < containers.promised_end(container, stream) - _CUT_S:
                counter.cut_s = last
    damage = Damage(counter.lost, counter.cut_s)
    if damage:
        log.warning("%s: %s", path, damage)
        if on_damage is not None:
            on_damage(damage)


def timeline(path: Path | str) -> Timeline:
    """True presentation times of all frames, without decoding them."""
    path = Path(path)
    with containers.opened(path) as container:
        stream = containers.video_stream(container, path)
        times = [
            float(packet.pts * packet.time_base)
            for packet in containers.packets(container, stream, containers.Counter())
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard
        ]
        rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
    if not times:
        raise VideoError(f"{path} has no frames", hint=_PLAY)
    return Timeline(np.unique(np.array(times)), rate)


def slow_motion(path: Path | str) -> float:
    """Seconds of a file that one real second takes: above 1 where it says that it was filmed faster than it plays."""
    path = Path(path)
    with containers.opened(path) as container:
        stream = containers.video_stream(container, path)
        faster = containers.capture_rate(container) / float(stream.average_rate or math.inf)
    return faster if faster > _SLOW else 1.0


def _first_sound(path: Path) -> float | None:
    """When the first sound that can be decoded was heard; None without sound."""
    with containers.opened(path) as container:
        stream = containers.audio_stream(container)
        first = next(containers.sounds(container, stream), None) if stream is not None else None
    return None if first is None else float(first.time)


def _unusual(container: Any, stream: Any, first: Any) -> Iterator[str]:
    """Sentences about what the owner of a file should know."""
    end = containers.promised_end(container, stream)
    container.seek(int(end / stream.time_base), stream=stream)
    tail = [
        p.pts * p.time_base
        for p in containers.packets(container, stream, containers.Counter())
        if p.pts is not None and p.size
    ]
    if not tail or max(tail) < end - _CUT_S:
        yield f"the file was cut off before the {float(end):.1f} s it promises; what is there is used"
    a, b, c, d = shown_as(first)
    if a * d - b * c < 0:
        yield "the picture is mirrored, as the file asks"
    if first.color_trc in _HDR:
        yield f"high dynamic range ({_HDR[first.color_trc]}) shown without tone mapping: colors look pale"
    if stream.sample_aspect_ratio not in (None, 0, 1):
        yield f"its pixels are not square ({stream.sample_aspect_ratio}): lengths in 3D will be wrong along one axis"
    capture = containers.capture_rate(container)
    if capture > _SLOW * float(stream.average_rate or capture):
        yield f"slow motion: filmed at {capture:g} frames a second, as the file says; times are those of playback"
