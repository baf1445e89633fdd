"""Whether another tool's positions lie where the picture shows people, and from which number it counts frames.

A file of positions does not say of which pictures it is. So the detector that ships looks at a few frames, and what it
sees is compared: where bodies lie elsewhere, the scale, turn, crop or order of joints that would explain it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy import ndarray as Array
from scipy.optimize import linear_sum_assignment

from twoview.detection.readers import ImportedPeople
from twoview.detection.tracking import People
from twoview.detectors import SHIPPED, Detector, Person, build
from twoview.detectors.crops import around
from twoview.errors import FormatError
from twoview.media.video import frames

FEW, MORE = 6, 12  # frames that are looked at; more where the counting of frames is to be found out
SEEN = 0.35  # mean score of a person's joints, and least score of a joint, that are compared
LEAST_FRAMES = 2  # in which somebody must be seen, for the comparison to say anything
OFF = 0.04  # median distance of joints, in body sizes, beyond what two detectors differ by: 0.01 to 0.03 on real people
NOTICED = 0.018  # the same, where one factor for all positions halves it, which detectors' differences do not
NEAR = 0.1  # median distance of joints, in body sizes, of bodies that are the same
ELSEWHERE = 0.25  # from here on bodies are not the same
OTHER_JOINT = 0.06  # a joint farther from its place, in body sizes, and much nearer another's, is that other
MOST_OUTSIDE = 0.4  # share of joints outside the picture from which on positions are not this picture's
EDGE = 0.1  # of the picture's size: joints this far outside are still guesses of a detector
SMALLEST, LARGEST = 0.02, 3.0  # a body's size over the picture's longer side
_RATIOS = np.array([1 / 4, 1 / 3, 3 / 8, 1 / 2, 2 / 3, 3 / 4, 4 / 3, 3 / 2, 2, 8 / 3, 3, 4])  # of common picture sizes
SURE = 0.2  # how far from one half the share of a frame's movement must be that tells the counting

UNCHECKED = "to import it as it is: --set check=false"


@dataclass(frozen=True, eq=False)
class Seen:
    """What the detector sees in some frames of a video: frame number from 0, and everyone there, with COCO's joints."""

    frame: tuple[int, ...]
    people: tuple[tuple[Person, ...], ...]

    def pairs(self, imported: ImportedPeople, first: int) -> list[tuple[list[Array], list[Person]]]:
        """Joints (J, 2) of everyone imported, and everyone seen, of each frame that has both; `first` counts as 0."""
        found = []
        for frame, people in zip(self.frame, self.people, strict=True):
            rows = np.flatnonzero(imported.frame == frame + first)
            if len(rows) and people:
                found.append(([imported.xy[row] for row in rows], list(people)))
        return found


@cache
def _shipped() -> Detector:
    return build(SHIPPED, device="cpu")


def look(video: Path | str, times: Array, chosen: Sequence[int], detector: Detector | None = None) -> Seen:
    """What the detector, by default the one that ships, sees in the chosen frames (numbers from 0) of a video."""
    detector = detector or _shipped()
    people = []
    for frame in chosen:
        time = float(times[frame])
        picture = next(frames(video, start=time, end=time), None)
        sure = [one for one in detector(picture.rgb) if float(one.score.mean()) >= SEEN] if picture else []
        people.append(tuple(sure))
    return Seen(tuple(chosen), tuple(people))


def worth_a_look(imported: ImportedPeople, count: int, *, most: int, first: int = 0) -> list[int]:
    """Frames of the video, spread over it: in each part of the file the one in which somebody moves most.

    first  the number that the file gives the video's first frame
    """
    speed = {}
    by_frame = {int(number): np.flatnonzero(imported.frame == number) for number in np.unique(imported.frame)}
    for number, rows in by_frame.items():
        later = by_frame.get(number + 1)
        moved = 0.0
        if later is not None:
            apart = np.linalg.norm(imported.xy[rows][:, None] - imported.xy[later][None], axis=-1)
            known = np.isfinite(apart).any(axis=-1)
            moved = float(np.nanmedian(apart[known], axis=-1).min()) if known.any() else 0.0
        speed[number] = moved
    there = [number for number in by_frame if 0 <= number - first < count]
    parts = np.array_split(np.array(there, int), min(most, len(there)))
    return [max(part.tolist(), key=lambda number: speed[number]) - first for part in parts if len(part)]


# --- numbers alone ---------------------------------------------------------------------------------------------------


def check_unit(imported: ImportedPeople, size: tuple[int, int], label: str) -> None:
    """Raises FormatError for positions that are shares of the picture, whose size is (width, height) px."""
    xy = imported.xy[imported.score > 0]
    if np.percentile(np.abs(xy), 99) > 2.0:
        return
    low = float(xy.min())
    unit = "-1 to 1 (OpenPose's keypoint_scale 4)" if low < -0.05 else "0 to 1 (OpenPose's keypoint_scale 3)"
    raise FormatError(
        f"{label}: positions are from {low:.2f} to {xy.max():.2f}: shares of the picture from {unit}, and pixels of "
        f"{size[0]} x {size[1]} are expected",
        hint="let the tool write pixels (OpenPose: --keypoint_scale 0)"
        + ("" if low < -0.05 else ", or say that a picture was one unit wide and high: --from-size 1x1"),
    )


def check_extent(imported: ImportedPeople, size: tuple[int, int], label: str) -> None:
    """Raises FormatError for bodies that are mostly outside a picture of `size` (width, height), or absurdly large."""
    xy = imported.xy[imported.score > 0]
    width, height = size
    far = ((xy < -0.02 * np.array(size)) | (xy > 1.02 * np.array(size))).any(axis=-1)
    if far.mean() > MOST_OUTSIDE:
        corner = np.percentile(xy, 99, axis=0)
        raise FormatError(
            f"{label}: {far.mean():.0%} of the joints lie outside the picture of {width} x {height}; they reach to "
            f"({corner[0]:.0f}, {corner[1]:.0f})" + _turned_by_numbers(xy, size),
            hint="was another copy of the video detected? give its size: --from-size WIDTHxHEIGHT",
        )
    seen = imported.score > 0
    low = np.where(seen[..., None], imported.xy, np.inf).min(axis=1)
    high = np.where(seen[..., None], imported.xy, -np.inf).max(axis=1)
    body = float(np.median((high - low).max(axis=1)[seen.sum(axis=1) >= 2]))
    if not SMALLEST <= body / max(size) <= LARGEST:
        raise FormatError(
            f"{label}: bodies are {body:.1f} px large in a picture of {width} x {height}",
            hint="was another copy of the video detected? give its size: --from-size WIDTHxHEIGHT",
        )


def _turned_by_numbers(xy: Array, size: tuple[int, int]) -> str:
    inside = ((xy >= 0) & (xy <= np.array(size[::-1]))).all(axis=-1).mean()
    return "; they would fit in the picture turned by 90 degrees" if inside > 0.95 and size[0] != size[1] else ""


# --- against what is seen -------------------------------------------------------------------------------------------

Move = Callable[[Array], Array]


def check_places(imported: ImportedPeople, seen: Seen, first: int, size: tuple[int, int], label: str) -> str:
    """A sentence about what was compared. Raises FormatError where bodies do not lie where people are seen, with why.

    first  the number that the file gives the video's first frame
    """
    pairs = seen.pairs(imported, first)
    if len(pairs) < LEAST_FRAMES:
        return f"not compared with the picture: {SHIPPED} sees nobody in {len(seen.frame)} frames"
    names = imported.skeleton.joints
    kept = [(names.index(name), i) for i, name in enumerate(_COCO) if name in names]
    theirs, ours = [a for a, _ in kept], [b for _, b in kept]
    pairs = [([one[theirs] for one in xy], [_only(person, ours) for person in people]) for xy, people in pairs]
    as_is, named = _misfit(pairs, lambda xy: xy), [_COCO[i] for i in ours]
    if wrong := _other_joints(pairs, named):
        raise FormatError(
            f"{label}: the joints are in another order than {imported.skeleton.name}: {wrong}",
            hint=f"name the order with --skeleton, or export the joints with their names\n{UNCHECKED}",
        )
    causes = sorted(
        ((_misfit(pairs, move), cause) for cause, move in _causes(pairs, size, named)), key=lambda row: row[0]
    )
    if as_is > OFF and causes and causes[0][0] < min(NEAR, as_is / 2):
        raise FormatError(
            f"{label}: bodies lie {as_is:.2f} body sizes from where {SHIPPED} sees people, and {causes[0][1][0]}",
            hint=f"{causes[0][1][1]}\n{UNCHECKED}",
        )
    factor = _factor(pairs)
    if as_is > NOTICED and len(pairs) > LEAST_FRAMES and _misfit(pairs, lambda xy: xy * factor) < as_is / 2:
        made = np.round(np.array(size) / factor).astype(int)
        raise FormatError(
            f"{label}: bodies lie {as_is:.3f} body sizes from where {SHIPPED} sees people, and half as far in pictures "
            f"of about {made[0]} x {made[1]}; this video has {size[0]} x {size[1]}",
            hint=f"give the size of the copy that was detected: --from-size {made[0]}x{made[1]}\n{UNCHECKED}",
        )
    if as_is > ELSEWHERE:
        raise FormatError(
            f"{label}: in {len(pairs)} frames that were compared, bodies lie {as_is:.1f} body sizes from where "
            f"{SHIPPED} sees people",
            hint=f"are they of this video, uncut, at this frame rate and size?\n{UNCHECKED}",
        )
    return f"compared with {SHIPPED} in {len(pairs)} frames: {as_is:.3f} body sizes apart"


def share_seen(people: People, joints: Sequence[str], seen: Seen) -> dict[int, float]:
    """Track -> in which share of the frames that were looked at, and have it, somebody is seen where it lies."""
    kept = [(joints.index(name), i) for i, name in enumerate(_COCO) if name in joints]
    theirs, ours = [a for a, _ in kept], [b for _, b in kept]
    near: dict[int, list[bool]] = {}
    for frame, persons in zip(seen.frame, seen.people, strict=True):
        for row in np.flatnonzero(people.frame == frame) if persons else ():
            apart = min(_apart(people.xy[row][theirs], _only(person, ours)) for person in persons)
            near.setdefault(int(people.track[row]), []).append(apart < ELSEWHERE)
    return {track: float(np.mean(found)) for track, found in near.items() if len(found) >= LEAST_FRAMES}


_COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def _only(person: Person, joints: list[int]) -> Person:
    return Person(person.xy[joints], person.score[joints], person.box)


def _size(person: Person) -> float:
    box = around(person.xy, person.score, least=SEEN)
    return max(float(np.nanmax(box[2:] - box[:2])), 1.0) if not np.isnan(box).all() else 1.0


def _apart(xy: Array, person: Person) -> float:
    """Median distance of joints (J, 2) from those of a person who was seen, in body sizes; infinite without any."""
    apart = np.linalg.norm(xy - person.xy, axis=-1)[person.score >= SEEN]
    apart = apart[np.isfinite(apart)]
    return float(np.median(apart)) / _size(person) if len(apart) >= 4 else np.inf


def _misfit(pairs: list[tuple[list[Array], list[Person]]], move: Move) -> float:
    """Median over frames of how far the nearest of the moved bodies is from somebody who was seen."""
    return float(np.median([min(_apart(move(xy), person) for xy in bodies for person in people)
                            for bodies, people in pairs]))  # fmt: skip


Cause = tuple[str, str]


def _causes(
    pairs: list[tuple[list[Array], list[Person]]], size: tuple[int, int], names: list[str]
) -> Iterator[tuple[Cause, Move]]:
    """(what would explain the places and what to do, the move that puts bodies right); names: of the joints."""
    width, height = size
    turned = "they lie right in the picture turned by {} degrees"
    upright = "detect in a re-encoded copy whose pictures are stored upright"
    across = np.array(size)
    yield (turned.format(90), upright), lambda xy: np.stack([width - 1 - xy[..., 1], xy[..., 0]], axis=-1)
    yield (turned.format(270), upright), lambda xy: np.stack([xy[..., 1], height - 1 - xy[..., 0]], axis=-1)
    yield (turned.format(180), upright), lambda xy: across - 1 - xy
    yield (
        ("they lie right in the mirrored picture", "detect in the picture as it is"),
        lambda xy: np.stack([width - 1 - xy[..., 0], xy[..., 1]], axis=-1),
    )
    other = [names.index(_opposite(name)) if _opposite(name) in names else i for i, name in enumerate(names)]
    yield (
        ("they lie right in the mirrored picture", "detect in the picture as it is"),
        lambda xy: np.stack([width - 1 - xy[other, 0], xy[other, 1]], axis=-1),
    )
    yield (
        ("y points up in the file", "export with y down, from the top left corner"),
        lambda xy: np.stack([xy[..., 0], height - 1 - xy[..., 1]], axis=-1),
    )
    yield ("x and y are swapped", "export x before y"), lambda xy: xy[..., ::-1]
    yield ("they lie right as shares of the picture from 0 to 1", "--from-size 1x1"), lambda xy: xy * across
    yield ("they lie right as shares of the picture from -1 to 1", "export pixels"), lambda xy: (xy + 1) / 2 * across
    scale, offset = _stretched(pairs)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return
    if not offset.any():
        made = np.round(across / scale).astype(int)
        what = f"they lie right in pictures of about {made[0]} x {made[1]}, and this video has {width} x {height}"
        todo = f"give the size of the copy that was detected: --from-size {made[0]}x{made[1]}"
    else:
        by = f"scaled by {scale[0]:.2f} x {scale[1]:.2f} and moved by {offset[0]:.0f}, {offset[1]:.0f} px"
        what = f"they lie right when {by}"
        todo = "was a cropped or padded copy detected? detect in the whole picture"
    yield (what, todo), lambda xy: xy * scale + offset


def _opposite(name: str) -> str:
    side, _, rest = name.partition("_")
    return f"{ {'left': 'right', 'right': 'left'}.get(side, side) }_{rest}" if rest else name


def _factor(pairs: list[tuple[list[Array], list[Person]]]) -> float:
    """The one factor by which bodies lie best where the nearest person is seen; least squares."""
    above = below = 0.0
    for bodies, people in pairs:
        xy, person = min(((xy, person) for xy in bodies for person in people), key=lambda pair: _apart(*pair))
        both = (person.score >= SEEN) & np.isfinite(xy).all(axis=-1)
        above, below = above + float((xy * person.xy)[both].sum()), below + float((xy[both] ** 2).sum())
    return above / below if below > 0 and above > 0 else 1.0


def _stretched(pairs: list[tuple[list[Array], list[Person]]]) -> tuple[Array, Array]:
    """Scale (2,) and offset (2,) px that put the largest body of each frame on the largest person who was seen.

    A scale alone where that suffices, and a plain ratio where one is near.
    """
    theirs, seen = [], []
    for bodies, people in pairs:
        body = max(bodies, key=lambda xy: float(np.nanmax(np.nanmax(xy, axis=0) - np.nanmin(xy, axis=0))))
        person = max(people, key=_size)
        both = (person.score >= SEEN) & np.isfinite(body).all(axis=-1)
        theirs.append(body[both])
        seen.append(person.xy[both])
    a, b = np.concatenate(theirs), np.concatenate(seen)
    if len(a) < 8:
        return np.full(2, np.nan), np.zeros(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = (a * b).sum(axis=0) / (a * a).sum(axis=0)
        plain = _RATIOS[np.argmin(np.abs(np.log(_RATIOS / alone.mean())))]
        near = np.full(2, plain) if np.abs(np.log(alone / plain)).max() < 0.05 else alone
        for scale in (near, alone):
            scaled = [([xy * scale for xy in bodies], people) for bodies, people in pairs]
            if _misfit(scaled, lambda xy: xy) < NEAR / 2:
                return scale, np.zeros(2)
        spread = [np.subtract(*np.percentile(values, [85, 15], axis=0)) for values in (a, b)]
        scale = spread[1] / spread[0]
    return scale, np.median(b, axis=0) - scale * np.median(a, axis=0)


def _other_joints(pairs: list[tuple[list[Array], list[Person]]], names: list[str]) -> str:
    """Which joints lie on other joints of the person who was seen; "" where none do."""
    tables = []
    for bodies, people in pairs:
        xy, person = min(((xy, person) for xy in bodies for person in people), key=lambda pair: _set_apart(*pair))
        if _set_apart(xy, person) > NEAR:
            continue
        table = np.linalg.norm(xy[:, None] - person.xy[None], axis=-1) / _size(person)
        table[:, person.score < SEEN] = np.nan
        tables.append(table)
    if len(tables) < LEAST_FRAMES + 1:
        return ""
    counts = np.isfinite(tables).sum(axis=0)
    mean = np.where(counts > len(tables) / 2, np.nansum(tables, axis=0) / np.maximum(counts, 1), np.nan)
    known = np.flatnonzero(np.isfinite(np.diag(mean)))
    if len(known) < 6:
        return ""
    square = np.nan_to_num(mean[np.ix_(known, known)], nan=9.0)
    rows, columns = linear_sum_assignment(square)
    swapped = [(known[i], known[j]) for i, j in zip(rows, columns, strict=True)
               if square[i, i] > OTHER_JOINT and square[i, j] < 0.4 * square[i, i]]  # fmt: skip
    if len(swapped) < 2 or square[rows, columns].mean() > NEAR / 2:
        return ""
    return "; ".join(f"{names[i]} lies where the {names[j].replace('_', ' ')} is seen" for i, j in swapped[:3])


def _set_apart(xy: Array, person: Person) -> float:
    """Mean distance of each seen joint from the nearest of the body's, in body sizes, whatever their order."""
    points = xy[np.isfinite(xy).all(axis=-1)]
    seen = person.xy[person.score >= SEEN]
    if len(points) < 4 or len(seen) < 4:
        return np.inf
    return float(np.linalg.norm(seen[:, None] - points[None], axis=-1).min(axis=1).mean()) / _size(person)


# --- the first frame ------------------------------------------------------------------------------------------------


def first_frame(imported: ImportedPeople, count: int, label: str, video: str, given: int | None = None) -> int | None:
    """The number that a file gives the video's first frame, 0 or 1; None where its numbers fit both.

    count  frames of the video; given: what a person says
    Raises FormatError where the numbers fit neither.
    """
    low, high = imported.frames
    known = given if given is not None else imported.first
    fits = [first for first in ((0, 1) if known is None else (known,)) if first <= low and high - first < count]
    if not fits:
        counted = "" if known is None else f", counted from {known},"
        more = high + 1 - (known or 0) - count
        why = f": {more} more than there are" if more > 0 and low == (known or 0) else ""
        raise FormatError(
            f"{label} has frames {low} to {high}{counted} and {video} has {count} frames (0 to {count - 1}){why}",
            hint="were the detections made from this video, not from a cut or resampled copy?",
        )
    return fits[0] if len(fits) == 1 else None


def find_first_frame(imported: ImportedPeople, seen: Seen) -> int | None:
    """0 or 1, the number of the video's first frame by where people are seen; None where that does not tell.

    Between two frames a body moves: what is seen lies at the one end of the movement or at the other.
    """
    names = imported.skeleton.joints
    kept = [(names.index(name), i) for i, name in enumerate(_COCO) if name in names]
    theirs, ours = [a for a, _ in kept], [b for _, b in kept]
    shares, weights = [], []
    for frame, people in zip(seen.frame, seen.people, strict=True):
        now, then = (imported.xy[imported.frame == number][:, theirs] for number in (frame, frame + 1))
        options = [(_apart(a, one), a, one) for a in now for one in (_only(person, ours) for person in people)]
        if not options or not len(then):
            continue
        near, a, person = min(options, key=lambda option: option[0])
        apart = [np.nan_to_num(np.nanmedian(np.linalg.norm(a - other, axis=-1)), nan=np.inf) for other in then]
        b = then[int(np.argmin(apart))]
        if near > ELSEWHERE:
            continue
        step, off = b - a, person.xy - a
        good = (person.score >= SEEN) & np.isfinite(step).all(axis=-1)
        good &= np.linalg.norm(off, axis=-1) < ELSEWHERE * _size(person)
        moved = float((step[good] ** 2).sum())
        if moved > 0:
            shares.append(float((step[good] * off[good]).sum()) / moved)
            weights.append(moved)
    if len(shares) < 3:
        return None
    share = float(np.average(shares, weights=weights))
    error = float(np.sqrt(np.average((np.array(shares) - share) ** 2, weights=weights) / (len(shares) - 1)))
    if abs(share - 0.5) < max(SURE, 2 * error) or not -1 < share < 2:
        return None
    return int(share > 0.5)
