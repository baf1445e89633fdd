"""Pictures to judge results by: the skeleton over the video beside the 3D figure, as a video and as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray as Array

from twoview.errors import FormatError, VideoError
from twoview.media.video import Frame, VideoWriter, frames, probe, timeline
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress, Progress, report
from twoview.skeleton import H36M17
from twoview.storage.records import atomic
from twoview.visualization.drawing import PAPER, Stage, View, blank, draw_overlay, placed, text_width, write_text

HEIGHT = 600  # pixels of a rendered video
CELL = (236, 300)  # width and height of a contact sheet's pictures
_MARGIN = 34  # for the line of text above the pictures


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

    before  another result for the same clip, of the unadapted model say: then the two figures stand side by side
    height  of the written video in pixels

    Every frame keeps its own time. Raises VideoError for a video that cannot be read.
    """
    path = Path(path)
    scene = _Scene.of(Path(video), poses2d, poses3d, before)
    info = probe(video)
    width = round(info.size[0] * height / info.size[1] / 2) * 2
    panel = (round(height * 0.6 / 2) * 2, height)
    size = (width + len(scene.columns) * panel[0], height + _MARGIN)
    with VideoWriter(path, size, info.rate) as writer:
        for done, frame in enumerate(frames(video, size=(width, height)), 1):
            page = blank(size)
            page[_MARGIN:, :width] = scene.overlaid(frame)
            write_text(page, f"{Path(video).name}   {frame.time:.2f} s", (12, 23))
            for index, column in enumerate(scene.columns):
                left = width + index * panel[0]
                page[_MARGIN:, left : left + panel[0]] = scene.figure(column, frame.time, panel)
                write_text(page, column.title, (left + 12, 23))
            _write_corner(page, scene.stage.note)
            writer.write(page, frame.time - scene.times[0])
            report(on_progress, Progress("render", done, len(scene.times), "frames"))
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
    """Write a picture (png) of `count` moments, evenly spread over the poses, each cut out around the athlete.

    One column a moment. Rows: the skeleton over the video, then the 3D figure from two sides (or before and after).
    """
    path = Path(path)
    scene = _Scene.of(Path(video), poses2d, poses3d, before)
    moments = scene.moments(count)
    rows = 1 + len(scene.columns)
    page = blank((len(moments) * CELL[0], rows * CELL[1] + _MARGIN))
    for index, moment in enumerate(moments):
        frame = next(frames(video, start=moment), None)
        if frame is None:
            continue  # the file was cut off before it
        left = slice(index * CELL[0], (index + 1) * CELL[0])
        page[_MARGIN : _MARGIN + CELL[1], left] = scene.cut_out(frame, CELL)
        for row, column in enumerate(scene.columns, 1):
            top = _MARGIN + row * CELL[1]
            page[top : top + CELL[1], left] = scene.figure(column, frame.time, CELL)
        write_text(page, f"{frame.time:.2f} s", (left.start + 10, 23), size=0.45)
        report(on_progress, Progress("contact sheet", index + 1, len(moments), "moments"))
    for row, column in enumerate(scene.columns, 1):
        write_text(page, column.title, (10, _MARGIN + row * CELL[1] + 20), size=0.45)
    _write_corner(page, scene.stage.note)
    write_picture(path, page)
    return path


def write_picture(path: Path | str, rgb: Array) -> None:
    """Write a picture (H, W, 3) uint8 as png or jpg, atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(cv2.imencode(Path(path).suffix, rgb[..., ::-1])[1].tobytes())


def _write_corner(page: Array, text: str) -> None:
    """Bottom right, quietly."""
    at = (page.shape[1] - text_width(text, size=0.42) - 12, page.shape[0] - 12)
    write_text(page, text, at, size=0.42, color=(120, 126, 138))


@dataclass(frozen=True)
class _Column:
    """One 3D figure: xyz (T, J, 3) with the root over the origin, and where on the ground it was (T, 2)."""

    title: str
    view: View
    xyz: Array
    ground: Array


@dataclass(frozen=True)
class _Scene:
    """What is drawn, at the times (T,) of the video's frames."""

    times: Array
    flat: Poses2D
    columns: Sequence[_Column]
    stage: Stage

    @classmethod
    def of(cls, video: Path, poses2d: Poses2D, poses3d: Poses3D, before: Poses3D | None) -> _Scene:
        times = timeline(video).seconds
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
        stage = Stage.of(poses3d) if before is None else Stage.of(poses3d, before)

        def column(title: str, view: View, poses: Poses3D) -> _Column:
            return _Column(title, view, *placed(poses.at(times)))

        columns = (
            [column("3D, three-quarter", "three-quarter", poses3d), column("3D, from the side", "side", poses3d)]
            if before is None
            else [column("before", "three-quarter", before), column("after", "three-quarter", poses3d)]
        )
        return cls(times, flat.at(times), columns, stage)

    def at(self, time: float) -> int:
        """Index of the frame nearest to a time."""
        return int(np.abs(self.times - time).argmin())

    def overlaid(self, frame: Frame) -> Array:
        """The frame with the skeleton drawn over it."""
        rgb, index = frame.rgb.copy(), self.at(frame.time)
        scale = rgb.shape[1] / self.flat.size[0]
        xy = (self.flat.xy[index] + 0.5) * scale - 0.5
        draw_overlay(rgb, xy, self.flat.score[index], self.flat.skeleton, extent=self.span.max() * scale)
        return rgb

    def figure(self, column: _Column, time: float, size: tuple[int, int]) -> Array:
        """One 3D figure at a time."""
        index = self.at(time)
        return self.stage.draw(column.xyz[index], column.ground[index], size, column.view)

    def cut_out(self, frame: Frame, size: tuple[int, int]) -> Array:
        """The overlaid picture around the athlete, of one scale for the whole clip."""
        height = 1.3 * max(self.span[1], self.span[0] * size[1] / size[0])
        known = self.flat.xy[self.at(frame.time)]
        seen = known[np.isfinite(known).all(axis=1)]
        center = (seen.min(axis=0) + seen.max(axis=0)) / 2 if len(seen) else np.array(self.flat.size) / 2
        scale = size[1] / height
        move = np.array([[scale, 0, size[0] / 2 - center[0] * scale], [0, scale, size[1] / 2 - center[1] * scale]])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        rgb = cv2.warpAffine(frame.rgb, move, size, flags=way, borderValue=PAPER)
        index = self.at(frame.time)
        xy = self.flat.xy[index] @ move[:, :2].T + move[:, 2]
        draw_overlay(rgb, xy, self.flat.score[index], self.flat.skeleton, extent=self.span.max() * scale)
        return rgb

    @cached_property
    def span(self) -> Array:
        """Width and height in px that the athlete takes up in nearly all frames."""
        known = (xy[np.isfinite(xy).all(axis=1)] for xy in self.flat.xy)
        spans = [np.ptp(xy, axis=0) for xy in known if len(xy) > 4]
        size = np.array(self.flat.size, np.float64)
        return np.maximum(np.percentile(spans, 98, axis=0), 0.02 * size.max()) if spans else size

    def moments(self, count: int) -> list[float]:
        """Times, evenly spread over the frames that have a figure."""
        shown = np.isfinite(self.columns[-1].xyz).all(axis=(1, 2))
        candidates = self.times[shown] if shown.any() else self.times
        chosen = np.linspace(0, len(candidates) - 1, min(count, len(candidates)) + 2)[1:-1]
        return [float(candidates[round(index)]) for index in chosen]
