"""A small copy of a video, to put into an html page: few pixels, a bound on its bytes, and quick to seek in."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.media.video import VideoInfo, frames, probe
from twoview.media.writer import VideoWriter
from twoview.progress import OnProgress, Progress, report

LONGEST_SIDE = 640  # px
QUALITY = 26  # constant rate factor
_HIGHEST_RATE = 3_000_000  # bits per second
_LOWEST_RATE = 80_000  # below it nothing can be recognized
_KEY_FRAME_S = 0.25  # from one key frame to the next, so that a browser is quick to show any frame


@dataclass(frozen=True, eq=False)
class SmallCopy:
    """An mp4 (H.264, no sound) whose first frame is at 0.

    times  (N,) s  of its frames on the video's own clock; the copy keeps their distances
    size   (width, height) px
    """

    content: bytes
    times: Array
    size: tuple[int, int]


def small_copy(
    video: Path | str, *, start: float, end: float, most_bytes: int, on_progress: OnProgress | None = None
) -> SmallCopy | None:
    """The frames from `start` to `end` seconds, at most LONGEST_SIDE px; None where they do not fit into `most_bytes`.

    The longer the video, the fewer bits a second of it gets, and where that is not enough the fewer pixels; too few to
    recognize anything: None. Raises VideoError for a video that cannot be read.
    """
    info = probe(video)
    bits = 8 * most_bytes / max(min(end - start, info.duration_s), 1.0) * 0.9  # an encoder keeps it only about
    for side in (LONGEST_SIDE, LONGEST_SIDE // 2):
        if bits < _LOWEST_RATE:
            return None
        copy = _copy(info, (start, end), side, min(bits, _HIGHEST_RATE), on_progress)
        if copy is None or len(copy.content) <= most_bytes:
            return copy
    return None


def _copy(
    info: VideoInfo, span: tuple[float, float], side: int, bits: float, on_progress: OnProgress | None
) -> SmallCopy | None:
    """A copy of at most `side` px and about so many bits per second; None where the video shows nothing in the span."""
    scale = min(1.0, side / max(info.size))
    width, height = (max(2, round(length * scale / 2) * 2) for length in info.size)
    options = {
        "g": str(max(1, round(_KEY_FRAME_S * float(info.rate)))), "bf": "0",
        "maxrate": str(round(bits)), "bufsize": str(round(bits)),
    }  # fmt: skip
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.mp4"
        with VideoWriter(path, (width, height), info.rate, quality=QUALITY, options=options) as writer:
            for frame in frames(info.path, start=span[0], end=span[1], size=(width, height)):
                times.append(frame.time)
                writer.write(frame.rgb, frame.time - times[0])
                report(on_progress, Progress("page", len(times), max(info.frames, len(times)), "frames"))
        return SmallCopy(path.read_bytes(), np.array(times), (width, height)) if times else None
