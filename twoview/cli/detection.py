"""`twoview detect`: the athlete's keypoints in the session's videos, detected here or imported from another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Detector,
    SessionFolder,
    Takes,
    Trust,
    Views,
    Without,
    config_file,
    flag,
    names,
    set_option,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.errors import ConfigError
from twoview.storage.session import Session, open_session


def detect(
    views: Views = None,
    take: Takes = None,
    without: Without = None,
    detector: Detector = None,
    device: Annotated[str | None, flag("detect.device")] = None,
    person: Annotated[
        str | None,
        typer.Option(help="The athlete's number in people.png, or auto for the most likely person.", metavar="N|auto"),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Videos detected in parallel: 1 keeps a CPU busy, a GPU can take more.", min=1)
    ] = 1,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Import the detections in this file of AlphaPose, MMPose, COCO or DeepLabCut, or in this folder of "
            "OpenPose, instead of detecting; {take} and {view} in the path stand for their names.",
            metavar="PATH",
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
) -> None:
    """Find the athlete's 2D keypoints in every view of every take."""
    from twoview.workflow.detection import check_formats, imported_from, write_formats
    from twoview.workflow.stages import detect_views

    flags = {"detector": detector, "device": device, "person": _number(person)}
    settings = resolve("detect", file=config, flags=flags, sets=sets or (), trust=trust or ()).detect
    formats = check_formats(names(format) or ())
    store = open_session(session)
    rows: list[list[Any]] = []
    fresh: list[tuple[str, str]] = []
    written: list[Path] = []
    with console.progress() as on_progress:
        for found in detect_views(
            store, views=names(views), takes=names(take), without=names(without) or (), config=settings, source=source,
            jobs=jobs,
            choose_again=person == "auto", detect_again=detector is not None, on_progress=on_progress,
        ):  # fmt: skip
            poses, state = found.poses, "new" if found.fresh else "up to date"
            seen = (poses.score > 0).any(axis=1).mean()
            score = float(poses.score[poses.score > 0].mean()) if (poses.score > 0).any() else 0.0
            rows.append([found.take, found.view, len(poses), f"{seen:.1%}", round(score, 2), state])
            fresh += [(found.take, found.view)] if found.fresh else []
            written += write_formats(poses, store.detection_path(found.take, found.view), formats)
    console.table(["take", "view", "frames", "athlete found", "mean score", ""], rows)
    _show_people(store, fresh)
    for take_name, view in [(row[0], row[1]) for row in rows if source is None]:
        if file := imported_from(store.detection_path(take_name, view)):
            here = f"twoview detect --take {take_name} --views {view} --detector movenet"
            console.result(f"{take_name}/{view}: kept as imported from {file}    to detect it here: {here}")
    wanted = ",".join(names(views) or store.views)
    console.saved(store.folder / "takes", *written, next=f"twoview finetune --views {wanted}")


def _number(person: str | None) -> int | None:
    if person is None or person == "auto":
        return None
    if not person.isdigit():
        raise ConfigError(f"person {person!r} is neither a number nor auto", hint="the numbers are in people.png")
    return int(person)


def _show_people(store: Session, views: list[tuple[str, str]]) -> None:
    """Where there were several people: the picture that shows who was chosen, and how to choose another."""
    for take, view in views:
        picture = store.detection_path(take, view).with_suffix(".people.png")
        if picture.exists():
            other = f"twoview detect --take {take} --views {view} --person N"
            console.result(f"{take}/{view}: several people, see {console.short(picture)}    to choose another: {other}")
