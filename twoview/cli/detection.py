"""`twoview detect`: the athlete's keypoints in the session's videos, detected here or imported from another tool."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Detector,
    Jobs,
    Json,
    On,
    Person,
    SessionFolder,
    Takes,
    Trust,
    Views,
    Without,
    config_file,
    flag,
    names,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.errors import ClusterError, ConfigError, DetectorError, TwoViewError, VideoError, WorkerError

if TYPE_CHECKING:
    from twoview.detection.other_tools import Layout
    from twoview.workflow.detection import Athlete


def detect(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Videos of one event from two or more phones, which become a take. Without: the session's takes."
        ),
    ] = None,
    views: Views = None,
    take: Takes = None,
    without: Without = None,
    detector: Detector = None,
    device: Annotated[str | None, flag("detect.device")] = None,
    person: Person = None,
    jobs: Jobs = None,
    on: On = "",
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Import the detections in this file of AlphaPose, MMPose, COCO, DeepLabCut, SLEAP, Sports2D or "
            "VideoPose3D, or in this folder of OpenPose, Pose2Sim or rtmlib, instead of detecting; {take} and {view} "
            "in the path stand for their names.",
            metavar="PATH",
        ),
    ] = None,
    skeleton: Annotated[
        str | None,
        typer.Option(help="Order of the imported joints, where the file does not name them, for instance h36m17."),
    ] = None,
    first_frame: Annotated[
        int | None, typer.Option(help="Number that the imported file gives the video's first frame.", min=0, max=1)
    ] = None,
    from_size: Annotated[
        str | None,
        typer.Option(
            help="Size of the pictures that the other tool detected in, where it is not the video's; 1x1: the file "
            "holds shares of the picture.",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Additional formats of other tools to write: openpose,alphapose,coco,mmpose,deeplabcut."),
    ] = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("detect")] = None,
    sets: Annotated[list[str] | None, set_option("detect")] = None,
    trust: Trust = None,
    json: Json = False,
) -> None:
    """Find the athlete's 2D keypoints in every view of every take, or in videos that are named."""
    from twoview.storage.session import open_session
    from twoview.workflow.detection import check_formats, imported_from, write_formats
    from twoview.workflow.stages import detect_views, related_views, unrelated
    from twoview.workflow.synchronization import add_synchronized

    flags = {"detector": detector, "device": device, **athlete_flags(person)}
    every = resolve("detect", file=config, flags=flags, sets=sets or (), unread=unread_cluster(on), trust=trust or ())
    settings, hands = every.detect, workers(on, jobs, every, every.detect.device)
    if source is not None and (on or jobs):
        raise ConfigError("--jobs and --on are for detecting, and --from imports", hint="leave them out")
    formats = check_formats(names(format) or ())
    layout = _layout(source, skeleton, first_frame, from_size)
    wanted, takes = names(views), names(take)
    if videos:
        if takes and len(takes) > 1:
            raise typer.BadParameter("the videos become one take: --take names it")
        with console.progress() as on_progress:
            store, added = add_synchronized(
                session, videos, views=wanted, take=takes[0] if takes else None, on_progress=on_progress
            )
        wanted, takes = None, [added]
    else:
        store = open_session(session)
    rows: list[list[Any]] = []
    found_views: list[dict[str, Any]] = []
    several: list[tuple[str, str, Athlete]] = []
    written: list[Path] = []
    remarks: list[str] = []
    missing: TwoViewError | None = None
    with console.progress() as on_progress:
        try:
            for found in detect_views(
                store, views=wanted, takes=takes, without=names(without) or (), config=settings,
                source=source, layout=layout, choose_again=person == "auto", detect_again=detector is not None,
                trust=trust or (), workers=hands, on_progress=on_progress,
            ):  # fmt: skip
                poses, state = found.poses, "new" if found.fresh else "up to date"
                seen = (poses.score > 0).any(axis=1).mean()
                score = float(poses.score[poses.score > 0].mean()) if (poses.score > 0).any() else 0.0
                rows.append([found.take, found.view, len(poses), f"{seen:.1%}", round(score, 2), state])
                path = store.detection_path(found.take, found.view)
                if found.athlete and found.athlete.people > 1:
                    several.append((found.take, found.view, found.athlete))
                remarks += [f"{found.take}/{found.view}: {sentence}" for sentence in found.remarks]
                others = write_formats(poses, path, formats)
                written += others
                found_views.append(
                    {"take": found.take, "view": found.view, "frames": len(poses), "athlete_found": float(seen),
                     "mean_score": score, "fresh": found.fresh, "files": [str(path), *map(str, others)],
                     "athlete": asdict(found.athlete) if found.athlete else None,
                     "remarks": list(found.remarks)}
                )  # fmt: skip
        except (DetectorError, VideoError, WorkerError, ClusterError) as error:
            missing = error  # the other views have their results
    finetune = f"twoview finetune --views {quote(','.join(wanted or related_views(store)))}"
    known = all(
        store.sync_path(row["take"]).exists() and not (row["fresh"] and unrelated(store, row["take"]))
        for row in found_views
    )
    following = finetune if known else "twoview sync"
    if json:
        answer: dict[str, Any] = {"views": found_views, "failed": [console.failure(missing)] if missing else []}
        console.as_json({**answer, "next": "" if missing else following})
    elif rows:
        console.table(["take", "view", "frames", "athlete found", "mean score", ""], rows)
    for remark in () if json else remarks:
        console.result(remark)
    for take_name, view, athlete in several:
        picture = store.detection_path(take_name, view).with_suffix(".people.png")
        other = f"twoview detect --take {quote(take_name)} --views {quote(view)} --person N"
        other += f" --from {quote(source)}" if source else ""
        show_athlete(f"{take_name}/{view}: ", athlete, picture, other, json=json)
    if missing and json:
        console.show_failures([("", missing)])
        raise typer.Exit(1)
    if missing:
        raise missing
    if json:
        return
    for take_name, view in [(row[0], row[1]) for row in rows if source is None]:
        if file := imported_from(store.detection_path(take_name, view)):
            here = f"twoview detect --take {quote(take_name)} --views {quote(view)} --detector movenet"
            console.result(f"{take_name}/{view}: kept as imported from {file}    to detect it here: {here}")
    console.saved(store.folder / "takes", *written, next=following)


def _layout(source: str | None, skeleton: str | None, first_frame: int | None, size: str | None) -> Layout:
    """What a person says about another tool's file. Raises ConfigError where there is no such file, or no such size."""
    from twoview.detection.joint_orders import order
    from twoview.detection.other_tools import Layout

    if source is None and any(value is not None for value in (skeleton, first_frame, size)):
        raise ConfigError(
            "--skeleton, --first-frame and --from-size say what another tool's file does not, and none is imported",
            hint="name the file or folder with --from",
        )
    if skeleton:
        order(skeleton)
    if size is None:
        return Layout(skeleton or "", first_frame)
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size.strip().lower())
    if not found:
        raise ConfigError(f"--from-size {size!r} is no size", hint="width and height in pixels: --from-size 1280x720")
    return Layout(skeleton or "", first_frame, (int(found[1]), int(found[2])))


def athlete_flags(person: str | None, prefix: str = "") -> dict[str, Any]:
    """The settings that `--person N|auto` stands for; `auto` takes the likeliest person without a question."""
    if person is None:
        return {}
    if person == "auto":
        return {f"{prefix}sureness": 0.0}
    if not person.isdigit():
        raise ConfigError(f"person {person!r} is neither a number nor auto", hint="the numbers are in people.png")
    return {f"{prefix}person": int(person)}


def show_athlete(label: str, athlete: Athlete, picture: Path, other: str, *, json: bool = False) -> None:
    """Who was taken for the athlete of several people, how sure that is, and how to choose another."""
    if not json:
        console.result(f"{label}{athlete}    see {console.short(picture)}    to choose another: {other}")
    console.warn(*(f"{label}{sentence}" for sentence in athlete.warnings()))
