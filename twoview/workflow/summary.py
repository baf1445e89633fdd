"""What a file or a session holds, as rows for a table."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twoview.errors import FormatError, TwoViewError, VideoError
from twoview.media.video_files import SUFFIXES
from twoview.poses import Poses2D, Poses3D, World
from twoview.storage import records
from twoview.storage.session import Athlete, Session, ViewFile, open_session
from twoview.timeline import Sync
from twoview.workflow.file_summary import (
    READERS,
    describe_foreign,
    describe_run,
    describe_state,
    describe_videos,
    folder_kind,
    is_state,
    plain_values,
)
from twoview.workflow.models import read_result, run_in_use, run_names

if TYPE_CHECKING:
    from twoview.lifting.model import Model

NOT_YET = "; not yet "
NO_CLOCKS, NOT_DETECTED = "not yet synchronized", "not yet detected in"
MANY, SHOWN = 50, 3  # more takes are shown in short; takes named of each state
NAME, HEIGHT = "athlete's name", "height (m)"
DAMAGED = "damaged!"  # no take, view or method can be called so
BESIDE = (".2d.npz", ".before.npz", ".people.npz")  # endings of files beside a result
FINGERPRINT = re.compile(r"[0-9]+-[0-9a-f]{24}")
MODELS = (".pt", ".pth", ".bin")  # suffixes of files that hold a lifter
Row = dict[str, Any]


def is_damaged(row: Row) -> bool:
    """Whether a row is of a file that could not be read."""
    return any(str(value).startswith(DAMAGED) or f"; {DAMAGED}" in str(value) for value in row.values())


def describe_session(session: Session, takes: Sequence[str] | None = None) -> list[Row]:
    """One row per take (default: all): its views, and which stages are done; or what is wrong with its file."""
    rows, named = list[Row](), False
    for take in session.takes if takes is None else takes:
        try:
            files, athlete = session.take(take), session.athlete(take)
        except FormatError as error:
            rows.append({"take": take, "views": DAMAGED, "videos": error.message, "clocks": "", "athlete": ""})
            continue
        gone = [view for view, file in files.items() if not os.path.exists(file.path)]
        row: Row = {
            "take": take,
            "views": ", ".join(files),
            "videos": f"missing: {', '.join(gone)}" if gone else "present",
            "clocks": _clocks(session, take, files),
            "athlete": _athlete(session, take, files),
        }
        if athlete != Athlete():
            named = True
            row |= {NAME: athlete.name, HEIGHT: athlete.height_m or ""}
        rows.append(row)
    return [{**row, NAME: row.get(NAME, ""), HEIGHT: row.get(HEIGHT, "")} for row in rows] if named else rows


def _header(path: str) -> records.Header | None:
    """The header of a file; None where there is none. Raises FormatError for a damaged file."""
    try:
        return records.read_header(path)
    except FormatError:
        if os.path.lexists(path):
            raise
        return None


def _clocks(session: Session, take: str, files: Mapping[str, ViewFile]) -> str:
    """Whether a take is synchronized, as its videos are now."""
    path = str(session.sync_path(take))
    try:
        head = _header(path)
        if head is None:
            return NO_CLOCKS
        known = head["inputs"]
    except (FormatError, KeyError):
        return f"{DAMAGED} {os.path.basename(path)}"
    if known != {view: file.fingerprint for view, file in files.items()}:
        return "of other videos"
    lost = [view for view in files if view not in head.get("views", files)]
    return f"synchronized{NOT_YET}{', '.join(lost)}" if lost else "synchronized"


def _athlete(session: Session, take: str, files: Mapping[str, ViewFile]) -> str:
    """In which views of a take the athlete is not detected, as the videos are now."""
    found: dict[str, list[str]] = {}
    for view, file in files.items():
        path = str(session.detection_path(take, view))
        try:
            head = _header(path)
            known = None if head is None else head["inputs"]
        except (FormatError, KeyError):
            folder, name = os.path.split(path)
            found.setdefault(f"{DAMAGED} {os.path.basename(folder)}", []).append(name)
            continue
        if known != {"video": file.fingerprint}:
            state = NOT_DETECTED if known is None else "of another video in"
            found.setdefault(state, []).append(view)
    return "; ".join(f"{state} {', '.join(views)}" for state, views in found.items()) or "detected"


def describe_runs(session: Session) -> list[Row]:
    """One row per run: how far it is, its criterion before and after, and whether the session uses its model."""
    used, rows = run_in_use(session), list[Row]()
    for name in run_names(session):
        try:
            result = read_result(session.folder / "runs" / name)
        except FormatError as error:
            rows.append({"run": name, "method": DAMAGED, "criterion before": error.message, "after": "", "model": ""})
            continue
        if result is None:
            rows.append({"run": name, "method": "", "criterion before": "", "after": "", "model": "not finished"})
            continue
        state = "in use" if name == used else ""
        state += ("" if not state or result.adapted else ", ") + ("" if result.adapted else "kept unadapted")
        rows.append(
            {
                "run": name,
                "method": result.method,
                "criterion before": result.before,
                "after": result.after,
                "model": state,
            }
        )
    return rows


def describe_results(session: Session) -> list[Row]:
    """One row per result: of which video, and by which model."""
    models = {}
    for name in run_names(session):
        path = session.folder / "runs" / name / "model.pt"
        if path.exists():
            models[records.fingerprint(path)] = f"run {name}"
    if session.model_path.exists():
        used = records.fingerprint(session.model_path)
        models[used] = f"{models.get(used, 'a model of no run')}, in use"
    rows: list[Row] = []
    for path in sorted(session.results.glob("*.npz")):
        if not path.name.endswith(BESIDE):
            try:
                model = str(records.read_header(path)["inputs"]["model"])
            except (FormatError, KeyError, TypeError) as error:
                rows.append({"result": path.stem, "video": DAMAGED, "model": getattr(error, "message", str(error))})
                continue
            named = models.get(model, "a model that is gone" if FINGERPRINT.fullmatch(model) else model)
            rows.append({"result": path.stem, "video": _video_of(path), "model": named})
    return rows


def _video_of(path: Path) -> str:
    with suppress(FormatError):
        return str(records.read_json(path.with_suffix(".result.json")).get("file", ""))
    return ""


def describe(path: Path | str, *, trust: Collection[str] = ()) -> tuple[dict[str, list[Row]], str]:
    """Tables of what a file or folder holds, by title, and the command that follows.

    A folder is a session, one of its takes or runs, a take's two-view 3D, or one with videos. Detections
    of another tool are a file or a folder.
    Raises FormatError or VideoError for anything else.
    """
    path = Path(path)
    try:
        return _describe_ours(path, trust)
    except (FormatError, VideoError):
        if (found := _describe_detections(path)) is None:
            raise
        return {"rows": _as_rows(found)}, f"twoview detect --views a --from {shlex.quote(str(path))}"


def _describe_detections(path: Path) -> Row | None:
    """What another tool's detections hold; None for what holds none. Raises FormatError for wrong ones."""
    from twoview.detection.readers import read_detections, recognize

    try:
        tool = recognize(path)
    except TwoViewError:
        return None
    found = read_detections(path, tool)
    people = np.unique(found.frame, return_counts=True)[1]
    return {
        "format": f"detections of {tool}",
        "frames": f"{found.frames[0]} to {found.frames[1]}, {len(people)} of them with people",
        "people per frame": f"{people.min()} to {people.max()}",
        "joints": found.skeleton.name,
        **{f"note {number}": remark for number, remark in enumerate(found.remarks, 1)},
    }


def _describe_ours(path: Path, trust: Collection[str]) -> tuple[dict[str, list[Row]], str]:
    shown = shlex.quote(str(path))
    if not os.path.isdir(path):
        return {"rows": describe_file(path, trust=trust)}, _after_file(path)
    kind = folder_kind(path)
    if kind == "session":
        return describe_all(open_session(path))
    if kind == "run":
        return {"rows": _as_rows(describe_run(path))}, f"twoview finetune --run {shlex.quote(path.name)} --use"
    if kind == "triangulated":
        found = path / "solved" / "triangulation.npz"
        return {"rows": describe_file(found)}, f"twoview render --sync --take {shlex.quote(path.resolve().parent.name)}"
    if kind == "take":
        session, take = open_session(path.resolve().parents[1]), path.resolve().name
        files = [_video_row(view, file) for view, file in session.take(take).items()]
        rows = describe_session(session)
        return {"rows": [row for row in rows if row["take"] == take], "videos": files}, _after(session, rows)
    return {"rows": describe_videos(path)}, f"twoview infer {shown}"


def describe_all(session: Session) -> tuple[dict[str, list[Row]], str]:
    """Takes, runs and results of a session, and the command that follows."""
    rows = describe_session(session)
    return {"rows": rows, "runs": describe_runs(session), "results": describe_results(session)}, _after(session, rows)


def describe_takes(session: Session, takes: Sequence[str]) -> tuple[dict[str, list[Row]], str]:
    """Some takes of a session, and the command that follows. Raises SessionError for a name that is no take's."""
    rows = describe_session(session, session.choose_takes(takes))
    return {"rows": rows}, _after(session, rows)


def in_short(rows: Sequence[Row]) -> list[Row]:
    """Many takes as a few rows, the most frequent state first: how many takes are in it, and some of their names."""
    states: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        videos = row["videos"] if row["videos"] == "present" or row["views"] == DAMAGED else "missing"
        state = (row["views"], videos if row["views"] != DAMAGED else "", row["clocks"], row["athlete"])
        states.setdefault(state, []).append(row)
    found = []
    for (views, videos, clocks, athlete), own in sorted(states.items(), key=lambda entry: -len(entry[1])):
        takes = ", ".join(row["take"] for row in own[:SHOWN]) + (", ..." if len(own) > SHOWN else "")
        row = {"takes": len(own), "views": views, "videos": videos, "clocks": clocks, "athlete": athlete}
        if NAME in own[0]:
            row["athletes"] = len({one[NAME] for one in own} - {""})
        found.append({**row, "which": takes})
    return found


def _after(session: Session, rows: Sequence[Row]) -> str:
    """The command for the first stage that is missing in the takes of these rows."""
    for row in rows:
        if row["views"] != DAMAGED:
            if row["clocks"] == NO_CLOCKS:
                return "twoview sync"
            if NOT_DETECTED in row["athlete"]:
                return "twoview detect"
    if session.takes and not session.model_path.exists():
        views = dict.fromkeys(view for row in rows for view in _related(row))
        return f"twoview finetune --views {shlex.quote(','.join(views))}"
    return "twoview infer clip.mp4"


def _related(row: Row) -> list[str]:
    """The views of a take's row that its sync relates."""
    lost = row["clocks"].partition(NOT_YET)[2].split(", ")
    return [view for view in row["views"].split(", ") if view not in lost and row["views"] != DAMAGED]


def _after_file(path: Path) -> str:
    """The command that goes on from a file that was shown."""
    shown, kind = shlex.quote(str(path)), ""
    if path.suffix in MODELS:
        return f"twoview infer clip.mp4 --model {shown}"
    with suppress(FormatError):
        kind = str(records.read_header(path)["format"]) if path.suffix in (".npz", ".json") else ""
    if kind == "poses3d":
        return f"twoview angles {shown}"
    if kind == "poses2d" or path.suffix.lower() in SUFFIXES:
        return f"twoview infer {shown}"
    return {"sync": "twoview render --sync", "take": "twoview show"}.get(kind, "twoview show")


def _video_row(view: str, file: ViewFile) -> Row:
    size = f"{file.size[0]} x {file.size[1]} px"
    return {"view": view, "video": str(file.path), "picture": size, "frames per second": file.rate, "phone": file.phone}


def _as_rows(content: Row) -> list[Row]:
    return [{"what": name, "value": value} for name, value in content.items()]


def describe_file(path: Path | str, *, trust: Collection[str] = ()) -> list[Row]:
    """Name and value of everything worth knowing about one file: ours, a video, or one of other programs.

    Raises FormatError or VideoError for a file that is none of these.
    """
    path = Path(path)
    if path.suffix in MODELS and is_state(path):
        content = describe_state(path)
    elif path.suffix in MODELS:
        from twoview.lifting.model import load_model

        content = describe_model(load_model(path, trust=trust))
    elif path.suffix.lower() in READERS:
        content = describe_foreign(path)
    elif path.suffix in (".npz", ".json"):
        content = _describe_artefact(path)
    else:
        content = _describe_video(path)
    return _as_rows(content)


def _describe_artefact(path: Path) -> Row:
    head = records.read_json(path) if path.suffix == ".json" else records.read_npz(path)[0]
    start: Row = {"format": f"{head['format']} version {head['version']}", "made by": str(head.get("made_by", ""))}
    if head["format"] in ("triangulation", "cameras"):
        return {**start, **_describe_solved(path, head)}
    if path.suffix == ".json" and not records.is_value(head):
        return {**start, **plain_values(head)}
    if not records.is_value(head):
        return start
    value = records.load(path)
    if isinstance(value, Sync):
        clocks = {view: f"began {value.clocks[view].offset_s:+.4f} s, {value.clocks[view].drift_ppm:+.1f} ppm"
                  for view in value.views}  # fmt: skip
        return {**start, "method": value.method, "reference": value.reference, **clocks}
    start |= {"view": value.view, "skeleton": value.skeleton.name, "frames": len(value), "seconds": _span(value)}
    if isinstance(value, Poses2D):
        detected = f"{(value.score > 0).mean():.1%}"
        return {**start, "picture": f"{value.size[0]} x {value.size[1]} px", "joints detected": detected,
                "detector": value.source.made_by}  # fmt: skip
    filtered = value.filter or "none"
    start |= {"unit": value.unit, "origin": value.origin, "model": value.source.made_by, "filter": filtered}
    return start if value.world is None else {**start, **_describe_world(value, value.world)}


def _describe_world(poses: Poses3D, world: World) -> Row:
    """Where up is, how high the camera stands, and what the athlete does on the floor."""
    from twoview.biomechanics.events import find_jumps, travelled

    x, y, z = world.up
    tilt, roll = math.degrees(math.asin(min(max(-z, -1.0), 1.0))), math.degrees(math.atan2(x, -y))
    rows: Row = {
        "up": f"known to {world.up_sigma_deg:.1f} degrees, from {world.source}",
        "camera": f"looks {tilt:.1f} degrees down, rolled by {roll:.1f} degrees",
    }
    if poses.unit == "m":
        high = f"{-float(world.floor @ world.up):.2f} m below the camera, known to {world.floor_sigma_m:.2f} m"
        rows |= {"floor": high, "travelled": f"{travelled(poses):.2f} m"}
    jumps = [f"{jump.start:.2f} s: hips {100 * jump.rise_m:.0f} cm up" for jump in find_jumps(poses)]
    return rows | ({"in the air": ", ".join(jumps)} if jumps else {})


def _describe_solved(path: Path, head: records.Header) -> Row:
    """Two-view 3D of a take, or its cameras alone: where each phone stands from the first, and what its lens is."""
    from twoview.reconstruction.solved_cameras import read_cameras
    from twoview.reconstruction.triangulation_file import load_triangulation

    row: Row = {}
    if head["format"] == "cameras":
        cameras = read_cameras(path)
    else:
        found = load_triangulation(path)
        cameras, sigma = dict(found.cameras), f"{found.summary()['sigma_mm']:.0f} mm"
        row = {"frames": len(found.time), "reliable": f"{found.reliable.mean():.0%}", "sigma": sigma,
               "unit": found.unit}  # fmt: skip
    for view, camera in cameras.items():
        x, y, z = camera.camera().position
        moves = f", held in hands: {len(camera.start_s)} places, this is the first" if camera.moves else ""
        row[view] = (
            f"focal length {camera.focal_px:.0f} px, delay {1000 * camera.delay_s[0]:+.1f} ms, "
            f"stands {x:+.2f} m right, {0.0 - y:+.2f} m up, {z:+.2f} m ahead of the first camera{moves}"
        )
    return row


def _span(poses: Poses2D | Poses3D) -> str:
    return f"{poses.time[0]:.3f} to {poses.time[-1]:.3f}" if len(poses) else "none"


def describe_model(model: Model) -> Row:
    """What a lifter is, what input it takes, and the entries of its card that are one value."""
    card = {str(name): value for name, value in model.card.items() if not isinstance(value, dict | list)}
    return {
        "lifter": model.name,
        "weights": f"{sum(value.numel() for value in model.lifter.state_dict().values()):,}",
        "clip length": model.clip_length,
        "frames per second": model.rate_hz,
        "framing": model.framing,
        **card,
    }


def _describe_video(path: Path) -> Row:
    from twoview.media.video import probe

    info = probe(path)
    sound = f"from {info.audio_start_s:.3f} s" if info.has_audio else "none"
    notes = {f"note {number}": text for number, text in enumerate(info.warnings, 1)}
    said = {
        "phone": info.phone,
        "focal length": f"{info.focal_mm:g} mm in 35 mm terms" if info.focal_mm else "",
        "filmed": f"{info.filmed.replace('T', ' ')} by the phone's clock, seconds off others" if info.filmed else "",
        "timecode": info.timecode,
    }
    return {
        "picture": f"{info.size[0]} x {info.size[1]} px",
        "frames per second": str(info.rate),
        "codec": info.codec,
        "seconds": round(info.duration_s, 3),
        "rotated by": f"{info.rotation} degrees",
        "sound": sound,
        **{name: text for name, text in said.items() if text},
        **notes,
    }
