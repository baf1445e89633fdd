"""`twoview detect`: the athlete's keypoints in the session's videos, found here or brought from another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twoview.cli import console
from twoview.cli.options import ConfigFile, Detector, Device, SessionFolder, Sets, TakeName, Views, names
from twoview.config import DetectConfig, resolve
from twoview.errors import ConfigError
from twoview.storage.session import DEFAULT_FOLDER, Session, open_session


def detect(
    views: Views = None,
    take: TakeName = None,
    detector: Detector = None,
    device: Device = None,
    person: Annotated[
        str | None, typer.Option(help="The athlete's number in people.png, or auto: the likeliest.", metavar="N|auto")
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Videos at once; one keeps a processor busy, not a graphics card.", min=1)
    ] = 1,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Take these detections of AlphaPose, OpenPose (a folder), MMPose, COCO or DeepLabCut instead; "
            "{take} and {view} in the path stand for their names.",
            metavar="PATH",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="More files to write: openpose,alphapose,coco,mmpose,deeplabcut.")
    ] = None,
    session: SessionFolder = Path(DEFAULT_FOLDER),
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Find the athlete's 2D keypoints in every view of every take."""
    from twoview.workflow import detection
    from twoview.workflow import session as workflow_session

    flags = {"detector": detector, "device": device, "person": _number(person)}
    settings = resolve(DetectConfig, file=config, flags=flags, sets=sets or ())
    kinds = detection.check_formats(names(format) or ())
    store = open_session(session)
    rows: list[list[Any]] = []
    written: list[Path] = []
    with console.progress() as on_progress:
        found = workflow_session.detect_views(
            store, views=names(views), takes=names(take), config=settings, source=source, jobs=jobs,
            choose_again=person == "auto", detect_again=detector is not None, on_progress=on_progress,
        )  # fmt: skip
        for take_name, view, poses, fresh in found:
            seen = (poses.score > 0).any(axis=1).mean()
            score = float(poses.score[poses.score > 0].mean()) if (poses.score > 0).any() else 0.0
            rows.append([take_name, view, len(poses), f"{seen:.1%}", round(score, 2), "new" if fresh else "up to date"])
            written += detection.export(poses, store.detection_path(take_name, view), kinds)
    console.table(["take", "view", "frames", "athlete found", "mean score", ""], rows)
    _show_people(store, [(row[0], row[1]) for row in rows if row[-1] == "new"])
    for take_name, view in [(row[0], row[1]) for row in rows if source is None]:
        if brought := detection.brought_from(store.detection_path(take_name, view)):
            here = f"twoview detect --take {take_name} --views {view} --detector movenet"
            console.result(f"{take_name}/{view}: kept as brought from {brought}    to detect it here: {here}")
    wanted = ",".join(names(views) or store.views)
    console.saved(store.folder / "takes", *written, next=f"twoview finetune --views {wanted}")


def _number(person: str | None) -> int | None:
    if person is None or person == "auto":
        return None
    if not person.isdigit():
        raise ConfigError(f"person {person!r} is neither a number nor auto", hint="the numbers are in people.png")
    return int(person)


def _show_people(store: Session, views: list[tuple[str, str]]) -> None:
    """Where there were several people: the picture that shows who was taken, and how to take another."""
    for take, view in views:
        picture = store.detection_path(take, view).with_suffix(".people.png")
        if picture.exists():
            other = f"twoview detect --take {take} --views {view} --person N"
            console.result(f"{take}/{view}: several people, see {console.short(picture)}    another: {other}")
