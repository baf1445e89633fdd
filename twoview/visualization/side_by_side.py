"""Views of one take side by side on the session clock: a video to check a sync by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import VideoError
from twoview.media.audio import Audio, read_audio
from twoview.media.video import Frame, VideoInfo, frames, probe, timeline
from twoview.media.writer import VideoWriter
from twoview.progress import OnProgress, Progress, report
from twoview.timeline import ClockMap, Sync, common_grid
from twoview.visualization.drawing import blank, write_text

HEIGHT = 480  # pixels of each view
_BAR = 30  # pixels for the line of text above the pictures
_FLASH_S = 0.1  # how long an event is marked
_FLASH = (255, 214, 10)
_SOUND_RATE = 48000
_MOST_RATE = 60.0  # frames per second


def render_sync(
    videos: Mapping[str, Path],
    sync: Sync,
    path: Path | str,
    *,
    events: Sequence[float] = (),
    height: int = HEIGHT,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write a video of the time that all views show, side by side on the session clock, with time stamps.

    videos  view name -> video; all of them in `sync`
    events  session times (claps, hits) at which all pictures get a bright border
    height  of each view in pixels

    The sound of the first view is on the left channel, that of the others on the right: a clap heard twice is a wrong
    sync. Raises SyncError where the views do not overlap.
    """
    path = Path(path)
    infos = {view: probe(video) for view, video in videos.items()}
    times = {view: timeline(video).seconds for view, video in videos.items()}
    rate = min(max(float(info.rate) for info in infos.values()), _MOST_RATE)
    grid = common_grid(sync, times, rate=rate)
    sizes = {view: (round(info.size[0] * height / info.size[1] / 2) * 2, height) for view, info in infos.items()}
    size = (sum(width for width, _ in sizes.values()), height + _BAR)
    shown = {view: _at_times(videos[view], times[view], sync.to_view(view, grid), sizes[view]) for view in videos}
    sound = _sound(videos, infos, sync, (float(grid[0]), float(grid[-1])))
    with VideoWriter(path, size, rate, audio=sound) as writer:
        for done, moment in enumerate(grid.tolist(), 1):
            flash = any(0 <= moment - event < _FLASH_S for event in events)
            page = blank(size)
            left = 0
            for view, pictures in shown.items():
                frame = next(pictures)
                _paste(page, frame, left, f"{view}  {frame.time:.3f} s", flash=flash)
                left += sizes[view][0]
            write_text(page, f"session {moment:.3f} s", (size[0] - 190, 21), size=0.48)
            writer.write(page, moment - grid[0])
            report(on_progress, Progress("render sync", done, len(grid), "frames"))
    return path


def _paste(page: Array, frame: Frame, left: int, label: str, *, flash: bool) -> None:
    high, wide = frame.rgb.shape[:2]
    page[_BAR : _BAR + high, left : left + wide] = frame.rgb
    if flash:
        for edge in (np.s_[_BAR : _BAR + 12], np.s_[-12:]):
            page[edge, left : left + wide] = _FLASH
        page[_BAR:, left : left + 12] = page[_BAR:, left + wide - 12 : left + wide] = _FLASH
    write_text(page, label, (left + 10, 21), size=0.48)


def _at_times(video: Path, known: Array, wanted: Array, size: tuple[int, int]) -> Iterator[Frame]:
    """The frame nearest to each wanted time (ascending, on the view's clock), while decoding once."""
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    nearest = known[np.where(wanted - known[right - 1] <= known[right] - wanted, right - 1, right)]
    pictures = frames(video, start=float(nearest[0]), size=size)
    frame = next(pictures, None)
    if frame is None:
        raise VideoError(f"{video} has no frame that can be decoded from {nearest[0]:.2f} s on", hint="is it cut off?")
    for time in nearest:
        while frame.time < time - 1e-6 and (following := next(pictures, None)) is not None:
            frame = following
        yield frame


def _sound(
    videos: Mapping[str, Path], infos: Mapping[str, VideoInfo], sync: Sync, span: tuple[float, float]
) -> Audio | None:
    """First view left, the mean of the others right, from span[0] to span[1] on the session clock; None: no sound."""
    tracks = [
        _on_session_clock(read_audio(video, rate=_SOUND_RATE), sync.clock(view), span)
        for view, video in videos.items()
        if infos[view].has_audio
    ]
    if not tracks:
        return None
    others = np.mean(tracks[1:], axis=0) if len(tracks) > 1 else tracks[0]
    return Audio(np.stack([tracks[0], others], axis=1).astype(np.float32), _SOUND_RATE, 0.0)


def _on_session_clock(sound: Audio, clock: ClockMap, span: tuple[float, float]) -> Array:
    """Samples (N,) of the loudest channel on the session clock; silence where the view has none."""
    moments = np.arange(span[0], span[1], 1 / _SOUND_RATE)
    place = (clock.to_view(moments) - sound.start_s) * sound.rate
    loudest = int(np.argmax(np.square(sound.samples).sum(axis=0)))
    samples = np.interp(place, np.arange(len(sound.samples)), sound.samples[:, loudest], left=0.0, right=0.0)
    return np.asarray(samples)
