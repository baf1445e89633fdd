"""people.png: one row of small pictures for everyone in a video, to choose the athlete by eye."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from twoview import records
from twoview.choosing import TrackSummary
from twoview.tracking import People
from twoview.video import frames

Array = np.ndarray

SIDE = 120  # px of one thumbnail
SHOTS = 8  # thumbnails a row
MOST_ROWS = 12
MARGIN = 0.15


def draw_people(
    video: Path, size: tuple[int, int], people: People, summaries: list[TrackSummary], chosen: int, path: Path
) -> None:
    """Write one row per track, the likeliest athlete first: its number, when it was seen, how it looked over time.

    size  (width, height) of the pictures that the people were found in
    """
    rows = [_row(video, size, people, summary, chosen == summary.track) for summary in summaries[:MOST_ROWS]]
    with records.atomic(path) as temporary:
        cv2.imwrite(str(temporary), np.vstack(rows)[..., ::-1])


def _row(video: Path, size: tuple[int, int], people: People, summary: TrackSummary, chosen: bool) -> Array:
    own = people.of(summary.track)
    picks = np.unique(np.linspace(0, len(own.frame) - 1, SHOTS).round().astype(int))
    shots = [_shot(video, size, float(people.time[own.frame[i]]), own.box[i]) for i in picks]
    shots += [np.full((SIDE, SIDE, 3), 245, np.uint8)] * (SHOTS - len(shots))
    label = np.full((SIDE, 190, 3), 255 if not chosen else (222, 240, 222), np.uint8)
    lines = [
        f"person {summary.track}" + ("  athlete" if chosen else ""),
        f"{summary.start_s:.1f} to {summary.end_s:.1f} s",
        f"in {summary.coverage:.0%} of frames",
        f"{summary.size:.0%} of the height",
        f"score {summary.score:.2f}",
    ]
    for i, line in enumerate(lines):
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(label, line, (8, 22 + 21 * i), font, 0.55 if i == 0 else 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    row = np.hstack([label, *shots])
    row[-1] = 200
    return row


def _shot(video: Path, size: tuple[int, int], time: float, box: Array) -> Array:
    """A square around a box at one moment, scaled to SIDE."""
    frame = next(iter(frames(video, start=time, size=size)), None)
    if frame is None:
        return np.full((SIDE, SIDE, 3), 245, np.uint8)
    half = max((box[2:] - box[:2]).max() * (0.5 + MARGIN), 2.0)
    centre = (box[:2] + box[2:]) / 2
    matrix = np.array([[SIDE / 2 / half, 0, 0], [0, SIDE / 2 / half, 0]])
    matrix[:, 2] = SIDE / 2 - centre * matrix[0, 0]
    return cv2.warpAffine(frame.rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_AREA, borderValue=(230, 230, 230))
