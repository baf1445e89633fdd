"""The page of a result: its videos beside a 3D figure to turn, on one slider, with the curves of its angles.

One html file of at most about 40 MB, which opens from disk without a network. It holds small copies of the videos; what
it shows is JSON in it, and `assets/page/viewer.js` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray as Array

from twoview.biomechanics.angles import ANGLES, SIDES, angles
from twoview.biomechanics.events import find_contacts, find_jumps, find_swing, travelled
from twoview.biomechanics.filtering import body_size
from twoview.errors import FormatError, VideoError
from twoview.geometry.cameras import principal_point
from twoview.media.small_copy import SmallCopy, small_copy
from twoview.poses import Poses2D, Poses3D
from twoview.progress import OnProgress
from twoview.skeleton import BODY_M, H36M17, Skeleton
from twoview.timeline import ClockMap
from twoview.visualization.drawing import placed, side_of
from twoview.visualization.page import ASSETS, as_base64, as_data, write_html

if TYPE_CHECKING:
    from twoview.reconstruction.solved_cameras import SolvedCamera

MOST_FRAMES = 9000  # of longer results every second, third, ... frame
MOST_VIDEO_BYTES = 16_000_000  # of all videos together; a third more as text
# Sigma, on a body of BODY_M, up to which a joint is drawn fully, and from which on it is pale.
SURE, UNSURE = 0.05, 0.15
_SCORE_SURE = 0.5  # the same of a detector's score
_PER_UNIT = 10_000  # whole numbers of the page: 0.1 mm
_FRUSTUM = 0.4  # depth of a drawn camera, on a body of BODY_M
_TOGETHER = 0.25  # distance of hands that hold one thing, on a body of BODY_M
_MARGIN_S = 0.1  # of video before and after the poses
# What the page shows without being asked for more.
_FIRST = ("knee_flexion", "hip_flexion", "elbow_flexion", "shoulder_elevation", "x_factor", "trunk_side_bend")


@dataclass(frozen=True, eq=False)
class ShownVideo:
    """A video beside the figure.

    clock   from the video's clock to that of the poses
    poses   2D poses on the video's clock, drawn over it
    camera  where it was filmed from, in the axes of the poses; default: of a single video with 2D poses, the camera
            that sees the poses there
    """

    name: str
    path: Path
    clock: ClockMap = field(default_factory=ClockMap)
    poses: Poses2D | None = None
    camera: SolvedCamera | None = None


def write_page(
    poses: Poses3D,
    path: Path,
    *,
    before: Poses3D | None = None,
    videos: Sequence[ShownVideo] = (),
    sigma: Array | None = None,
    events: Mapping[str, float] | None = None,
    title: str = "",
    notes: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> None:
    """Write the page of poses; their clock is the page's.

    Poses whose world is known stand where they are on its floor. Without it the camera is taken as level, the lowest
    joint stands on the floor, and no angle that needs up is shown.

    before  a second result for the same video, drawn pale
    sigma   (T, J) in the poses' unit: uncertain joints are drawn pale; default: that of the poses, else joints
            of a low score in `videos`
    events  name -> s, marked on the slider and in the curves, beside jumps and the swing of hands that hold one thing
    notes   sentences for the person who will rely on the poses

    Of a video that cannot be read, or is too long, the page says so. Raises FormatError for no poses and for a `before`
    in another unit, StorageError when the disk is full.
    """
    if not len(poses):
        raise FormatError(f"there is no pose to show in {path}", hint="was an athlete found in the video?")
    if before is not None and before.unit != poses.unit:
        raise FormatError(
            f"the poses before are in {before.unit!r} and those after in {poses.unit!r}",
            hint="infer both with the same --height",
        )
    times = poses.time[:: -(-len(poses) // MOST_FRAMES)]
    span = (float(times[0]), float(times[-1]))
    shown, data = [], dict[str, str]()
    for number, video in enumerate(videos):
        copy, why = _copied(video, span, MOST_VIDEO_BYTES // len(videos), on_progress)
        shown.append(_video(video, copy, times) | ({"why": why} if why else {}))
        data |= {f"video-{number}": as_base64(copy.content)} if copy is not None else {}
    scene = _scene(poses, before, times, [_with_camera(video, poses, alone=len(videos) == 1) for video in videos])
    if (certainty := _certainty(poses, times, sigma, videos)) is not None:
        scene["figures"][0]["certainty"] = _whole(certainty, per_unit=100)
    title = title or poses.view or "3D pose"
    content = {
        "title": title,
        "facts": _facts(poses),
        "notes": list(notes),
        **scene,
        "videos": shown,
        "angles": _angles(poses, times),
        "contacts": _contacts(poses),
        "events": {name: round(float(moment), 4) for name, moment in {**_events(poses), **(events or {})}.items()},
    }
    write_html(
        path, title, (ASSETS / "viewer.html").read_text(encoding="utf-8"), styles=("libraries.css", "viewer.css"),
        scripts=("libraries.js", "motion.js", "viewer.js"), data={"content": as_data(content), **data},
    )  # fmt: skip


def _copied(
    video: ShownVideo, span: tuple[float, float], most_bytes: int, on_progress: OnProgress | None
) -> tuple[SmallCopy | None, str]:
    """What a video shows between two moments of the page's clock, or why it is not on the page."""
    start, end = (float(time) for time in video.clock.to_view(np.array(span)))
    start, end = start - _MARGIN_S, end + _MARGIN_S
    try:
        copy = small_copy(video.path, start=start, end=end, most_bytes=most_bytes, on_progress=on_progress)
    except VideoError as error:
        return None, error.message
    return copy, "" if copy is not None else "this video is too long for a page, or shows nothing at these times"


def _video(video: ShownVideo, copy: SmallCopy | None, times: Array) -> dict[str, Any]:
    """A video for the page: the times of its frames, its clock, and what is drawn over it at the page's `times`."""
    row: dict[str, Any] = {"name": video.name, "offset": video.clock.offset_s, "rate": video.clock.rate}
    if copy is None:
        return row
    row |= {"size": list(copy.size), "times": _rounded(copy.times, 4)}
    if video.poses is not None:
        flat = video.poses.to(H36M17).at(video.clock.to_view(times))
        scale = copy.size[0] / flat.size[0]
        row |= {
            "xy": _whole(((flat.xy + 0.5) * scale - 0.5).reshape(len(times), -1), per_unit=10),
            "score": _whole(flat.score, per_unit=100), **_drawn(flat.skeleton),
        }  # fmt: skip
    return row


def _scene(poses: Poses3D, before: Poses3D | None, times: Array, videos: Sequence[ShownVideo]) -> dict[str, Any]:
    """What stands in the room: figures at `times`, cameras, and how large a body is; the floor is at 0."""
    kept = poses.at(times, max_gap=0.0)
    turn, floor = _page_axes(poses), _floor(poses)
    ghost = [] if before is None else [replace(before.at(times), world=kept.world)]  # at the same place
    figures = [_on_page(one, turn, floor) for one in (kept, *ghost)]
    shift = _middle(figures[0]) if poses.origin == "camera" and poses.world is None else np.zeros(3)
    size = body_size(poses) / BODY_M
    placed_in_view = poses.axes == "camera" and floor is not None
    seen = [video for video in videos if video.camera is not None and placed_in_view]
    return {
        "times": _rounded(times, 4),
        "perUnit": _PER_UNIT,
        "meters": poses.unit == "m",
        "size": size,
        "skeleton": {**_drawn(poses.skeleton), "root": poses.skeleton.root,
                     "head": poses.skeleton.joints.index("head") if "head" in poses.skeleton.joints else -1},
        "figures": [{"joints": _whole((xyz - shift).reshape(len(times), -1))} for xyz in figures],
        "cameras": [_camera(video, turn, (0 if floor is None else turn @ floor) + shift, _FRUSTUM * size)
                    for video in seen],
    }  # fmt: skip


def _drawn(skeleton: Skeleton) -> dict[str, Any]:
    """Bones and the side of every joint: l, r or m."""
    sides = "".join(side_of(skeleton, joint)[0] for joint in range(len(skeleton)))
    return {"bones": [list(bone) for bone in skeleton.bones], "sides": sides}


def _page_axes(poses: Poses3D) -> Array:
    """The turn (3, 3) from the poses' axes to the page's: x right as the first camera sees it, y up, z towards it."""
    if poses.axes == "z-up":
        return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    if poses.axes != "camera":
        return np.eye(3)
    if poses.world is None:
        return np.diag([1.0, -1.0, -1.0])
    up, right = poses.world.up, poses.world.right
    return np.stack([right, up, np.cross(right, up)])


def _floor(poses: Poses3D) -> Array | None:
    """The point (3,) of the poses' axes that is the page's origin, or the camera; None for poses that have no place."""
    if poses.origin == "world":
        return np.zeros(3)
    if poses.world is not None and (poses.origin == "camera" or poses.unit == "m"):
        return np.asarray(poses.world.floor)
    return np.zeros(3) if poses.origin == "camera" else None


def _on_page(poses: Poses3D, turn: Array, floor: Array | None) -> Array:
    """Joints (T, J, 3) in the page's axes; those without a place stand on the floor, with the root over its middle."""
    if floor is None:
        down = np.array([1.0, -1.0, -1.0])  # y down, z away: a level camera's axes
        return np.asarray(placed(replace(poses, xyz=(poses.xyz @ turn.T) * down))[0] * down)
    return np.asarray((_in_camera(poses) - floor) @ turn.T)


def _middle(xyz: Array) -> Array:
    """The point (3,) of the floor in the middle of the way: below it is hardly a joint."""
    points = xyz.reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.zeros(3)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([(low[0] + high[0]) / 2, np.percentile(points[:, 1], 0.5), (low[2] + high[2]) / 2])


def _with_camera(video: ShownVideo, poses: Poses3D, *, alone: bool) -> ShownVideo:
    """The video with the camera of poses from this view alone, by the focal length that puts them on their pixels."""
    from twoview.reconstruction.solved_cameras import SolvedCamera

    if video.camera is not None or not alone or video.poses is None or poses.world is None or poses.axes != "camera":
        return video
    if poses.unit != "m" or poses.skeleton != H36M17:
        return video
    flat = video.poses.to(H36M17).at(video.clock.to_view(poses.time))
    places = _in_camera(poses)
    with np.errstate(invalid="ignore"):
        seen, plane = flat.xy - principal_point(np.array(flat.size, np.float64)), places[..., :2] / places[..., 2:]
    known = np.isfinite(seen + plane).all(axis=-1) & (places[..., 2] > 0)
    if not known.any():
        return video
    focal = float((seen[known] * plane[known]).sum() / (plane[known] ** 2).sum())
    camera = SolvedCamera(flat.size, focal, video.clock, poses.time[:1], np.eye(3)[None], np.zeros((1, 3)), np.zeros(1))
    return replace(video, camera=camera) if focal > 0 else video


def _in_camera(poses: Poses3D) -> Array:
    """Joints (T, J, 3) with the camera at 0."""
    xyz = poses.xyz.astype(np.float64)
    if poses.origin == "camera" or poses.world is None:
        return xyz
    return np.asarray(xyz - xyz[:, [poses.skeleton.root]] + poses.world.root[:, None])


def _camera(video: ShownVideo, turn: Array, shift: Array, depth: float) -> dict[str, Any]:
    """Where a phone stands and the corners of what it sees at a depth, in every window of a moving one."""
    solved = video.camera
    assert solved is not None
    width, height = np.array(solved.size) / 2 / solved.focal_px
    corners = depth * np.array([[-width, -height, 1], [width, -height, 1], [width, height, 1], [-width, height, 1]])
    windows = []
    for number, start in enumerate(solved.start_s.tolist()):
        camera = solved.camera(number)
        ends = np.stack([camera.position, *(corners @ camera.rotation + camera.position)]) @ turn.T - shift
        windows.append({"start": start, "points": _rounded(ends.ravel(), 4)})
    return {"name": video.name, "tall": float(np.degrees(2 * np.arctan(height))), "windows": windows}


def _certainty(poses: Poses3D, times: Array, sigma: Array | None, videos: Sequence[ShownVideo]) -> Array | None:
    """How surely joints are drawn (N, J) at `times`, 0 to 1: by their sigma, else by the scores of the 2D poses."""
    sigma = poses.sigma if sigma is None else sigma
    if sigma is not None:
        nearest = np.searchsorted(poses.time, times)
        scaled = sigma[nearest] / (body_size(poses) / BODY_M)
        return np.asarray(np.clip((UNSURE - scaled) / (UNSURE - SURE), 0, 1))
    flat = [video for video in videos if video.poses is not None]
    if poses.skeleton != H36M17 or not flat:
        return None
    scores = [video.poses.to(H36M17).at(video.clock.to_view(times)).score for video in flat if video.poses is not None]
    return np.asarray(np.clip(np.mean(scores, axis=0) / _SCORE_SURE, 0, 1))


def _contacts(poses: Poses3D) -> dict[str, list[list[float]]]:
    """When each foot stands on the floor, as pairs of s; none where it is not known."""
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    for contact in find_contacts(poses):
        found[contact.foot].append([round(contact.start, 4), round(contact.end, 4)])
    return found


def _events(poses: Poses3D) -> dict[str, float]:
    """Jumps, and the top of a swing where both hands are together when they are fastest: of a club, not of a walk."""
    found = {f"jump, {100 * jump.rise_m:.0f} cm": jump.start for jump in find_jumps(poses)}
    if not {"left_wrist", "right_wrist"} <= set(poses.skeleton.joints) or (swing := find_swing(poses)) is None:
        return found
    left, right = (poses.xyz[:, poses.skeleton.index(f"{side}_wrist")] for side in ("left", "right"))
    apart = float(np.linalg.norm(left - right, axis=-1)[np.abs(poses.time - swing.fastest).argmin()])
    return found | ({"top of swing": swing.top} if apart < _TOGETHER * body_size(poses) / BODY_M else {})


def _angles(poses: Poses3D, times: Array) -> list[dict[str, Any]]:
    """A panel per angle, those that are shown first at the front, each with a curve per side at `times`."""
    up = poses.world.up if poses.world is not None else _page_axes(poses)[1] if poses.axes != "camera" else None
    found = angles(poses, up=up)
    kept = np.searchsorted(poses.time, times)
    panels = []
    for name in (*_FIRST, *(name for name in ANGLES if name not in _FIRST)):
        about = ANGLES[name]
        sides = [*reversed(SIDES)] if about.sided else [""]
        names = {side: f"{side}_{name}".lstrip("_") for side in sides}
        curves = [
            {"side": side, "degrees": _rounded(found.degrees[one][kept], 1)}
            for side, one in names.items()
            if one in found.degrees and np.isfinite(found.degrees[one]).any()
        ]
        if curves:
            panels.append({
                "title": name.replace("_", " "), "first": name in _FIRST, "curves": curves,
                "about": f"between {about.between}; 0: {about.zero}; positive: {about.positive}",
            })  # fmt: skip
    return panels


def _facts(poses: Poses3D) -> list[str]:
    """What a person should know of the poses, in short."""
    facts = [f"{len(poses)} poses, {poses.time[0]:.2f} to {poses.time[-1]:.2f} s"]
    facts.append("meters" if poses.unit == "m" else "no scale, shape only")
    if poses.world is not None:
        facts.append(f"up known to {poses.world.up_sigma_deg:.1f} degrees")
        facts += [f"{travelled(poses):.2f} m travelled"] if poses.unit == "m" else []
    if len(poses) > MOST_FRAMES:
        facts.append(f"one in {-(-len(poses) // MOST_FRAMES)} is shown")
    return facts + ([f"filter: {poses.filter}"] if poses.filter else [])


def _whole(values: Array, *, per_unit: int = _PER_UNIT) -> list[list[int | None]]:
    """Rows of whole numbers, None for NaN."""
    scaled = np.round(np.asarray(values, dtype=np.float64) * per_unit)
    return [[None if value != value else int(value) for value in row] for row in scaled.tolist()]


def _rounded(values: Array, digits: int) -> list[float | None]:
    """Rounded numbers, None for NaN."""
    return [None if value != value else round(value, digits) for value in np.asarray(values, np.float64).tolist()]
