"""The skeleton over the video, beside the 3D figure: as a video and as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError, VideoError
from twoview.media.opencv import cv2
from twoview.media.video import Frame, frames, probe, timeline
from twoview.media.writer import VideoWriter
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress, Progress, report
from twoview.skeleton import H36M17
from twoview.storage.records import atomic
from twoview.visualization.drawing import (
    PAPER,
    Color,
    FigureSpace,
    Viewpoint,
    blank,
    draw_overlay,
    placed,
    text_width,
    write_text,
)

HEIGHT = 600  # pixels of a rendered video
CELL = (236, 300)  # width and height of the pictures of a contact sheet
_MARGIN = 34  # for the line of text above the pictures
_NOTE: Color = (120, 126, 138)


def render(
    video: Path | str,
    poses2d: Poses2D,
    poses3d: Poses3D,
    path: Path | str,
    *,
    before: Poses3D | None = None,
    height: int = HEIGHT,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write a video (mp4) of the skeleton over the picture, beside the 3D figure from two sides.

    before  a second result for the same video, such as that of the unadapted model: drawn beside the other
    height  of the written video in pixels

    Every frame keeps its own time. Raises VideoError for a video that cannot be read or shares no time with the poses,
    FormatError where `before` has another unit, StorageError when the disk is full.
    """
    path = Path(path)
    content = _Content.of(Path(video), poses2d, poses3d, before)
    info = probe(video)
    width = round(info.size[0] * height / info.size[1] / 2) * 2
    panel = (round(height * 0.6 / 2) * 2, height)
    size = (width + len(content.figures) * panel[0], height + _MARGIN)
    with VideoWriter(path, size, info.rate) as writer:
        for done, frame in enumerate(frames(video, size=(width, height)), 1):
            page = blank(size)
            page[_MARGIN:, :width] = content.with_skeleton(frame)
            write_text(page, f"{Path(video).name}   {frame.time:.2f} s", (12, 23))
            for index, figure in enumerate(content.figures):
                left = width + index * panel[0]
                page[_MARGIN:, left : left + panel[0]] = content.draw(figure, frame.time, panel)
                write_text(page, figure.title, (left + 12, 23))
            _write_corner(page, content.space.note)
            writer.write(page, frame.time - content.times[0])
            report(on_progress, Progress("render", done, len(content.times), "frames"))
    return path


def contact_sheet(
    video: Path | str,
    poses2d: Poses2D,
    poses3d: Poses3D,
    path: Path | str,
    *,
    before: Poses3D | None = None,
    count: int = 7,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write a picture (png) of `count` moments, spread evenly over the poses, each cropped to the athlete.

    One column per moment. Rows: the skeleton over the video, then the 3D figure from two sides, or before and after.
    Raises as `render` does.
    """
    path = Path(path)
    page = draw_sheet(Path(video), poses2d, poses3d, before=before, count=count, on_progress=on_progress)
    with atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix, page[..., ::-1])[1].tobytes())
    return path


def draw_sheet(
    video: Path | None,
    poses2d: Poses2D,
    poses3d: Poses3D,
    *,
    before: Poses3D | None = None,
    count: int = 7,
    on_progress: OnProgress | None = None,
) -> Array:
    """The picture of `contact_sheet` (H, W, 3); without a video its first row has the skeletons alone."""
    content = _Content.of(video, poses2d, poses3d, before)
    moments = content.moments(count)
    rows = 1 + len(content.figures)
    page = blank((len(moments) * CELL[0], rows * CELL[1] + _MARGIN))
    for index, moment in enumerate(moments):
        empty = Frame(moment, blank(content.flat.size))
        frame = empty if video is None else next(frames(video, start=moment), None)
        if frame is None:
            continue  # the file ends before this moment
        left = slice(index * CELL[0], (index + 1) * CELL[0])
        page[_MARGIN : _MARGIN + CELL[1], left] = content.cropped(frame, CELL)
        for row, figure in enumerate(content.figures, 1):
            top = _MARGIN + row * CELL[1]
            page[top : top + CELL[1], left] = content.draw(figure, frame.time, CELL)
        write_text(page, f"{frame.time:.2f} s", (left.start + 10, 23), size=0.45)
        report(on_progress, Progress("contact sheet", index + 1, len(moments), "moments"))
    for row, figure in enumerate(content.figures, 1):
        write_text(page, figure.title, (10, _MARGIN + row * CELL[1] + 20), size=0.45)
    _write_corner(page, content.space.note)
    return page


def _write_corner(page: Array, text: str) -> None:
    """Write a note in the bottom right corner."""
    at = (page.shape[1] - text_width(text, size=0.42) - 12, page.shape[0] - 12)
    write_text(page, text, at, size=0.42, color=_NOTE)


@dataclass(frozen=True)
class _Figure:
    """One 3D figure: xyz (T, J, 3) with the root above the origin, and the root's place on the ground (T, 2)."""

    title: str
    viewpoint: Viewpoint
    xyz: Array
    ground: Array


@dataclass(frozen=True)
class _Content:
    """What is drawn, at the times (T,) of the video's frames."""

    times: Array
    flat: Poses2D
    figures: Sequence[_Figure]
    space: FigureSpace

    @classmethod
    def of(cls, video: Path | None, poses2d: Poses2D, poses3d: Poses3D, before: Poses3D | None) -> _Content:
        times = poses2d.time if video is None else timeline(video).seconds
        flat = poses2d.to(H36M17) if poses2d.skeleton != H36M17 else poses2d
        if not len(flat) or not len(poses3d) or poses3d.time[0] > times[-1] or poses3d.time[-1] < times[0]:
            raise VideoError(
                f"{video} ({times[0]:.2f} to {times[-1]:.2f} s) and the poses to draw share no time",
                hint="are these the poses of this video?",
            )
        if before is not None and before.unit != poses3d.unit:
            raise FormatError(
                f"the poses before are in {before.unit!r} and those after in {poses3d.unit!r}",
                hint="infer both with the same --height",
            )

        def figure(title: str, viewpoint: Viewpoint, poses: Poses3D) -> _Figure:
            return _Figure(title, viewpoint, *placed(poses.at(times)))

        if before is None:
            space = FigureSpace.of(poses3d)
            front = figure("3D, three-quarter", "three-quarter", poses3d)
            figures = [front, figure("3D, from the side", "side", poses3d)]
        else:
            space = FigureSpace.of(poses3d, before)
            figures = [figure("before", "three-quarter", before), figure("after", "three-quarter", poses3d)]
        return cls(times, flat.at(times), figures, space)

    def at(self, time: float) -> int:
        """Index of the frame nearest to a time."""
        return int(np.abs(self.times - time).argmin())

    def with_skeleton(self, frame: Frame) -> Array:
        """The whole frame, of any size, with the skeleton over it."""
        rgb, index = frame.rgb.copy(), self.at(frame.time)
        scale = rgb.shape[1] / self.flat.size[0]
        self._draw_skeleton(rgb, (self.flat.xy[index] + 0.5) * scale - 0.5, index, scale)
        return rgb

    def cropped(self, frame: Frame, size: tuple[int, int]) -> Array:
        """The part of a frame around the athlete with the skeleton over it, at one scale for the whole video."""
        index = self.at(frame.time)
        xy = self.flat.xy[index]
        seen = xy[np.isfinite(xy).all(axis=1)]
        center = (seen.min(axis=0) + seen.max(axis=0)) / 2 if len(seen) else np.array(self.flat.size) / 2
        scale = size[1] / (1.3 * max(self.extent[1], self.extent[0] * size[1] / size[0]))
        move = np.array([[scale, 0, size[0] / 2 - center[0] * scale], [0, scale, size[1] / 2 - center[1] * scale]])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        rgb = cv2.warpAffine(frame.rgb, move, size, flags=way, borderValue=PAPER)
        self._draw_skeleton(rgb, xy @ move[:, :2].T + move[:, 2], index, scale)
        return rgb

    def _draw_skeleton(self, rgb: Array, xy: Array, index: int, scale: float) -> None:
        draw_overlay(rgb, xy, self.flat.score[index], self.flat.skeleton, extent=self.extent.max() * scale)

    def draw(self, figure: _Figure, time: float, size: tuple[int, int]) -> Array:
        """One 3D figure at a time -> picture of `size` (width, height)."""
        index = self.at(time)
        return self.space.draw(figure.xyz[index], figure.ground[index], size, figure.viewpoint)

    @cached_property
    def extent(self) -> Array:
        """Width and height in px that the athlete takes up in nearly all frames."""
        known = (xy[np.isfinite(xy).all(axis=1)] for xy in self.flat.xy)
        extents = [np.ptp(xy, axis=0) for xy in known if len(xy) > 4]
        size = np.array(self.flat.size, np.float64)
        return np.maximum(np.percentile(extents, 98, axis=0), 0.02 * size.max()) if extents else size

    def moments(self, count: int) -> list[float]:
        """`count` times, spread evenly over the frames that have a 3D pose."""
        shown = np.isfinite(self.figures[-1].xyz).all(axis=(1, 2))
        candidates = self.times[shown] if shown.any() else self.times
        chosen = np.linspace(0, len(candidates) - 1, min(count, len(candidates)) + 2)[1:-1]
        return [float(candidates[round(index)]) for index in chosen]
