"""Video files as phones write them: upright frames at their true times.

A time is a frame's presentation time in the file, never its number divided by a rate: phones vary the rate, start
streams at other times than 0, and cut with edit lists. Frames are streamed, so memory does not grow with the length.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from twoview.errors import VideoError
from twoview.media.audio import sound_tracks
from twoview.media.containers import (
    Damage,
    audio_streams,
    decoded_pictures,
    decoded_sound,
    opened,
    packets,
    promised_end,
    seek,
    video_stream,
)
from twoview.media.phone_tags import PhoneTags, phone_tags
from twoview.media.pixels import HDR, DecodedFrame, display_matrix
from twoview.timeline import Timeline

log = logging.getLogger(__name__)

_CUT_S = 0.5  # a stream whose last frame is this long before the end named in the file was cut off
_SLOW = 1.1  # video filmed at more than this many times its playback rate is slow motion
_LAPSE = 0.5  # video filmed at less than this share of its playback rate is a time-lapse
_FEW = 10.0  # frames per second
_PLAY = "play it; if that works, re-encode it with any video program"


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself; found without decoding all of it.

    size           (width, height) of the upright picture in pixels
    rate           mean frames per second; frames may come at uneven times, see `timeline`
    duration_s     from the first frame to the end; frames is an estimate
    rotation       degrees counterclockwise that make the stored picture upright: 0, 90, 180 or 270
    audio_start_s  time of the first sound, seconds on the clock of the frames; NaN without sound
    phone          maker and model of the phone that filmed it; "" where the file does not say
    focal_mm       focal length, 35 mm equivalent, that the phone wrote; 0 where the file does not say
    filmed         day and time by the phone's own clock, ISO 8601, to seconds at best; "" where the file does not say
    timecode       of the first frame, as cameras with a shared clock write it; "" where the file has none
    warnings       sentences about what is unusual
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
    phone: str = ""
    focal_mm: float = 0.0
    filmed: str = ""
    timecode: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright picture. time: presentation time in seconds; rgb (H, W, 3) uint8."""

    time: float
    rgb: Array


def probe(path: Path | str) -> VideoInfo:
    """Size, rate, duration, rotation and sound of a file.

    Raises VideoError for a file without a decodable video, and for one that is no recording at its true speed: the
    moving part of a Live Photo, a time-lapse, a video of which an edit list plays parts at another speed.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        tags = phone_tags(container, path)
        _check_recording(tags, stream, bool(audio_streams(container)), path)
        first = next(decoded_pictures(container, stream, Damage()), None)
        if first is None:
            raise VideoError(f"{path} has no frame that can be decoded", hint=_PLAY)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise VideoError(f"{path} does not name its frame rate", hint="re-encode it with any video program")
        turned = display_matrix(first)[0] == 0
        lasting = _lasting(container, stream)
        sound_start = _first_sound(path)
        return VideoInfo(
            path=Path(path),
            size=(first.height, first.width) if turned else (first.width, first.height),
            rate=Fraction(rate),
            duration_s=float(lasting.end - (stream.start_time or 0) * stream.time_base),
            frames=stream.frames or lasting.frames or round((lasting.end - lasting.start) * rate),
            rotation=round(first.rotation / 90) % 4 * 90,
            codec=stream.codec_context.name,
            has_audio=sound_start is not None,
            audio_start_s=math.nan if sound_start is None else sound_start,
            phone=tags.phone,
            focal_mm=tags.focal_mm,
            filmed=tags.filmed,
            timecode=tags.timecode,
            warnings=(
                *lasting.warnings,
                *_unusual(stream, first, tags),
                *filter(None, [str(sound_tracks(path)) if sound_start is not None else ""]),
            ),
        )


def frames(
    path: Path | str,
    *,
    start: float | None = None,
    end: float | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Frame]:
    """Upright frames with their times, from `start` to `end` seconds (both included), one at a time.

    size  (width, height) to scale the upright picture to while decoding; None: its own

    Frames that cannot be decoded are left out and counted in the log. Raises VideoError if nothing can be decoded.
    """
    for picture in decoded(path, start=start, end=end):
        yield Frame(picture.time, picture.rgb(size))


def decoded(
    path: Path | str,
    *,
    start: float | None = None,
    end: float | None = None,
    threads: int = 0,
) -> Iterator[DecodedFrame]:
    """The same as `frames`, as the decoder returns them: for callers that keep many frames and look at parts of them.

    threads  of the decoder, each of which keeps one or two frames; 0: one per core
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        if start is not None:
            seek(container, stream, start)
        damage = Damage()
        last, step, matrix = -math.inf, 0.0, None
        for picture in decoded_pictures(container, stream, damage):
            # Read from the first frame only: a frame whose side data was read stays in memory until garbage collection.
            matrix = matrix or display_matrix(picture)
            if picture.time <= last:
                continue  # of two frames at one time, the first is kept
            last, step = picture.time, picture.time - last
            if end is not None and last > end + 1e-6:
                break
            if start is None or last >= start - 1e-6:
                yield DecodedFrame(last, picture, matrix)
        else:
            if last == -math.inf and start is None:
                raise VideoError(f"{path} has no frame that can be decoded", hint=_PLAY)
            lasts = last + (step if math.isfinite(step) else 0.0)  # the last picture is shown as long as the one before
            if -math.inf < lasts < promised_end(container, stream) - _CUT_S:
                damage.cut_s = last
    if damage:
        log.warning("%s: %s", path, damage)


def timeline(path: Path | str) -> Timeline:
    """True presentation times of all frames, without decoding them."""
    with opened(path) as container:
        stream = video_stream(container, path)
        times = [
            float(packet.pts * packet.time_base)
            for packet in packets(container, stream, Damage())
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard
        ]
        rate = Fraction(stream.average_rate or stream.guessed_rate or 0)
    if not times:
        raise VideoError(f"{path} has no frames", hint=_PLAY)
    return Timeline(np.unique(np.array(times)), rate)


def read_slowdown(path: Path | str) -> float:
    """Seconds of the file that one real second takes: above 1 for slow motion, if the file says so."""
    with opened(path) as container:
        stream = video_stream(container, path)
        factor = phone_tags(container, path).capture_rate / float(stream.average_rate or math.inf)
    return factor if factor > _SLOW else 1.0


def _first_sound(path: Path | str) -> float | None:
    """Time of the first sound that can be decoded, seconds; None without sound."""
    with opened(path) as container:
        streams = audio_streams(container)
        used = streams[sound_tracks(path).used] if streams else None
        first = next(decoded_sound(container, used, Damage()), None) if used is not None else None
    return None if first is None else float(first.time)


@dataclass(frozen=True)
class _Lasting:
    """How long a stream lasts by its packets: start and end, seconds; frames where they were counted, else 0."""

    start: Fraction
    end: Fraction
    frames: int = 0
    warnings: tuple[str, ...] = ()


def _lasting(container: Any, stream: Any) -> _Lasting:
    """Of what the file promises and what its packets say, the packets count."""
    promised, start = promised_end(container, stream), (stream.start_time or 0) * stream.time_base
    unknown = promised <= start
    container.seek(stream.start_time or 0 if unknown else int(promised / stream.time_base), stream=stream)
    kept = [p for p in packets(container, stream, Damage()) if p.pts is not None and p.size and not p.is_discard]
    times = sorted(p.pts * stream.time_base for p in kept)
    if not times:
        said = f"the file was cut off before the {float(promised):.1f} s it should last; what is there is used"
        return _Lasting(start, promised, 0, (said,))
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else Fraction(0)
    end = times[-1] + step
    if unknown:
        said = f"the file does not say how long it lasts: by its frames it is {float(end - start):.1f} s"
        return _Lasting(start, end, len(times), (said,))
    if end < promised - Fraction(_CUT_S):
        said = f"the file was cut off before the {float(promised):.1f} s it should last; what is there is used"
        return _Lasting(start, end, 0, (said,))
    if times[-1] > promised + Fraction(_CUT_S):
        said = (
            f"the file says that it lasts {float(promised - start):.3f} s, and its frames {float(end - start):.1f} s: "
        )
        return _Lasting(start, end, 0, (said + "the frames count",))
    return _Lasting(start, promised)


def _check_recording(tags: PhoneTags, stream: Any, sound: bool, path: Path | str) -> None:
    """Raises VideoError where the file itself says that it is no recording of a movement at its true speed."""
    if tags.live_photo:
        raise VideoError(
            f"{path} is the moving part of a Live Photo: some 3 s around a photo, of which no movement can be learned",
            hint="film with the camera's Video mode; if this is the movement, export it with Save as Video in Photos",
        )
    if tags.time_lapse or (not sound and 0 < tags.capture_rate <= _LAPSE * float(stream.average_rate or 0)):
        said = f", filmed at {tags.capture_rate:g} frames per second" if tags.capture_rate else ""
        raise VideoError(
            f"{path} is a time-lapse{said}: it leaves out most of the movement, and its times are not those of filming",
            hint="film with the camera's Video mode, 60 frames per second or more for fast movements",
        )
    if tags.speeds:
        speeds = ", ".join(f"{speed:g}" for speed in tags.speeds)
        raise VideoError(
            f"{path} was edited so that parts of it play at {speeds} times their speed: times are not of filming",
            hint="use the file as it was filmed: in Photos, Export Unmodified Original",
        )


def _unusual(stream: Any, first: Any, tags: PhoneTags) -> Iterator[str]:
    """Warnings about the pictures and how they were filmed."""
    a, b, c, d = display_matrix(first)
    if a * d - b * c < 0:
        yield "the picture is shown mirrored, as the file demands"
    if first.color_trc in HDR:
        yield f"high dynamic range ({HDR[first.color_trc]}), which is mapped to the standard range"
    if stream.sample_aspect_ratio not in (None, 0, 1):
        yield f"the pixels are not square ({stream.sample_aspect_ratio}): lengths in 3D will be wrong along one axis"
    rate, filmed = float(stream.average_rate or 0), tags.capture_rate
    if rate and filmed > _SLOW * rate:
        yield f"slow motion: filmed at {filmed:g} frames per second, as the file says; times are those of playback"
    if 0 < filmed <= _LAPSE * rate:
        yield (
            f"filmed at {filmed:g} frames per second, as the file says, and played at {rate:g}: if that is a "
            "time-lapse, it leaves out most of the movement"
        )
    if 0 < rate < _FEW:
        yield f"{rate:.3g} frames per second are too few to see a movement; {_FEW:g} or more are needed"
