"""The athlete from another tool's 2D detections of a video: checked against its pictures, and given its frames' times.

All of these tools count frames: imported detections get the times of the video that they were made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from twoview.config import DetectConfig
from twoview.detection.athlete import Choice, Crowd, check_sure, choose_alone, draw_people
from twoview.detection.picture_check import (
    EDGE,
    FEW,
    MORE,
    check_extent,
    check_places,
    check_unit,
    find_first_frame,
    first_frame,
    look,
    share_seen,
    worth_a_look,
)
from twoview.detection.pipeline import clean
from twoview.detection.readers import ImportedPeople, read_detections
from twoview.detection.tracking import People, Tracker, join, poses_of_track
from twoview.detectors import SHIPPED, Detector, Person
from twoview.detectors.crops import around
from twoview.errors import DetectorError, FormatError
from twoview.media.video import probe, timeline
from twoview.poses import Poses2D, Source
from twoview.storage import records


@dataclass(frozen=True)
class Layout:
    """What a person says about another tool's file, where the file does not.

    joints       name of the order of the joints, one of `joint_orders.ORDERS`
    first_frame  the number of the video's first frame, 0 or 1
    size         (width, height) of the pictures that were detected, where they were not the video's
    """

    joints: str = ""
    first_frame: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """The athlete of an imported file, how it was chosen, and sentences about what was found out about the file."""

    poses: Poses2D
    choice: Choice
    remarks: tuple[str, ...]


def import_poses(
    path: Path | str,
    video: Path | str,
    *,
    tool: str | None = None,
    config: DetectConfig | None = None,
    view: str = "",
    layout: Layout | None = None,
) -> Poses2D:
    """The athlete from another tool's file or folder, see `import_athlete`."""
    return import_athlete(path, video, tool=tool, config=config, view=view, layout=layout).poses


def import_athlete(
    path: Path | str,
    video: Path | str,
    *,
    tool: str | None = None,
    config: DetectConfig | None = None,
    view: str = "",
    layout: Layout | None = None,
    detector: Detector | None = None,
    picture: Path | None = None,
) -> Imported:
    """The athlete from a file of AlphaPose, MMPose, COCO, DeepLabCut, SLEAP, Sports2D or VideoPose3D, or from the
    folder of OpenPose, Pose2Sim or rtmlib.

    video     the file that the detections were made from: its frames' times, size and fingerprint are taken
    tool      a key of READERS; by default recognized from the content
    config    `person`, `score`, `repair`, `check` and the smoothing are used; the other settings are for detecting
    layout    what the file does not say
    detector  that looks at some frames, by default the one that ships
    picture   file to which a picture of everyone is written where there are several people

    Raises FormatError where the file has frames that the video does not have, and where bodies do not lie where people
    are seen in the video.
    """
    config, layout = config or DetectConfig(), layout or Layout()
    times, size, label = timeline(video).seconds, probe(video).size, str(path)
    imported = read_detections(path, tool, joints=layout.joints, clip=Path(video).stem)
    if layout.size is not None:
        imported = _resized(imported, layout.size, size)
    first = first_frame(imported, len(times), label, str(video), layout.first_frame)
    check_unit(imported, size, label)
    remarks = list(imported.remarks)
    if not config.check:
        check_extent(imported, size, label)
    if first is None or config.check:
        chosen = worth_a_look(imported, len(times), most=FEW if first is not None else MORE, first=first or 0)
        seen = look(video, times, chosen, detector)
        if config.check:
            remarks.append(check_places(imported, seen, first or 0, size, label))
            check_extent(imported, size, label)
        if first is None and (first := find_first_frame(imported, seen)) is None:
            low, high = imported.frames
            raise FormatError(
                f"{label} has frames {low} to {high} of {len(times)}: whether it counts from 0 or from 1 "
                f"cannot be seen in {len(chosen)} frames",
                hint="say which number the video's first frame has: --first-frame 0 or --first-frame 1",
            )
        if imported.first is None and layout.first_frame is None and len(chosen) > FEW:
            remarks.append(f"frames are counted from {first}, by where {SHIPPED} sees people in {len(chosen)} frames")
    low, high = (number - first for number in imported.frames)
    counted = f", counted from {first}" if first else ""
    remarks.insert(0, f"{imported.tool}, frames {low + first} to {high + first}{counted}, of {len(times)}")
    imported, outside = _inside(replace(imported, frame=imported.frame - first), size)
    if outside:
        remarks.append(f"{outside} bodies outside the picture were left out")
    people = join(as_people(imported, times))
    choice = choose_alone(people, size, config.person)
    if picture is not None and choice.people > 1:
        draw_people(Path(video), Crowd(people, imported.skeleton, size), choice, picture, least=config.sureness)
    if config.check:
        _check_seen(choice, share_seen(people, imported.skeleton.joints, seen))
    check_sure(choice, config.sureness)
    poses = clean(poses_of_track(people, choice.track, imported.skeleton, size, least=config.score), config, label)
    poses = replace(poses, view=view, source=Source(records.fingerprint(video), imported.tool))
    return Imported(poses, choice, tuple(remarks))


def _check_seen(choice: Choice, shares: Mapping[int, float]) -> None:
    """Raises DetectorError for an athlete whom the file has where nobody is seen, beside people who are seen."""
    there = [track for track, share in shares.items() if share > 0.5]
    if there and not choice.by_hand and shares.get(choice.track, 1.0) == 0.0:
        named = ", ".join(f"person {track}" for track in there)
        raise DetectorError(
            f"person {choice.track} of {choice.people} would be the athlete, but {SHIPPED} sees nobody there; {named} "
            "lies where somebody is seen",
            hint=f"look at people.png, and name the athlete: person={there[0]}",
        )


def _resized(imported: ImportedPeople, made: tuple[int, int], size: tuple[int, int]) -> ImportedPeople:
    """Positions in pictures of the size `made` as positions in those of `size`, pixel centers on pixel centers."""
    scale = np.array(size) / np.array(made)
    shares = made == (1, 1)
    xy = imported.xy * scale if shares else (imported.xy + 0.5) * scale - 0.5
    said = f"positions scaled from {'shares of the picture' if shares else f'{made[0]} x {made[1]}'} to the video's"
    return replace(imported, xy=xy, remarks=(*imported.remarks, f"{said} {size[0]} x {size[1]}"))


def _inside(imported: ImportedPeople, size: tuple[int, int]) -> tuple[ImportedPeople, int]:
    """Without the bodies of which most lies outside the picture, and how many those were."""
    far = ((imported.xy < -EDGE * np.array(size)) | (imported.xy > (1 + EDGE) * np.array(size))).any(axis=-1)
    seen = imported.score > 0
    kept = far.sum(axis=1) <= 0.5 * np.maximum(seen.sum(axis=1), 1)
    rows = {name: getattr(imported, name)[kept] for name in ("frame", "person", "xy", "score")}
    return replace(imported, **rows), int((~kept).sum())


def as_people(imported: ImportedPeople, times: Array) -> People:
    """People with track numbers: the tool's own, or where it gives none those of people tracked frame by frame."""
    order = np.argsort(imported.frame, kind="stable")
    box = np.array([around(xy, score, least=1e-6) for xy, score in zip(imported.xy, imported.score, strict=True)])
    order = order[~np.isnan(box[order]).any(axis=1)]
    track = imported.person.copy()
    if (imported.person < 0).any():
        tracker = Tracker()
        for frame in np.unique(imported.frame[order]):
            rows = order[imported.frame[order] == frame]
            people = [Person(imported.xy[i], imported.score[i], box[i]) for i in rows]
            matched = tracker.match(int(frame), people)
            tracks = {i: t for t, i in matched.items()}
            for i, (row, person) in enumerate(zip(rows, people, strict=True)):
                track[row] = tracks[i] if i in tracks else tracker.new()
                tracker.update(int(frame), int(track[row]), person)
    colors = np.full((len(order), 6), np.nan)
    return People(
        times, imported.frame[order], track[order], imported.xy[order], imported.score[order], box[order], colors
    )
