"""The command `twoview sync`, which relates clocks by sound, by motion or by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from twoview.cli import console
from twoview.cli.options import (
    DEFAULT_SESSION,
    Jobs,
    Json,
    On,
    SessionFolder,
    TakeName,
    Views,
    config_file,
    names,
    numbers,
    set_option,
    unread_cluster,
    workers,
)  # fmt: skip
from twoview.command_settings import resolve
from twoview.errors import SessionError, TwoViewError

if TYPE_CHECKING:
    from twoview.storage.session import Session
    from twoview.timeline import Sync
    from twoview.workflow.sheet import SheetTake


def sync(
    videos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Videos of one event from two or more phones. Without: the takes that lack a clock, else all."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="SHEET.csv",
            help="Take many videos from a table with the columns take, view, file, and if known athlete, height, "
            "timestamps, distance.",
        ),
    ] = None,
    views: Views = None,
    take: TakeName = None,
    reference: Annotated[
        str | None, typer.Option(help="View whose clock becomes the session clock; default: the first.")
    ] = None,
    motion: Annotated[
        bool, typer.Option("--motion", help="Use the athlete's motion instead of sound. Run `twoview detect` first.")
    ] = False,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Use sound, corrected by motion where that knows more. Run `twoview detect` first."
        ),
    ] = False,
    offset: Annotated[
        list[str] | None,
        typer.Option(
            help="Set by hand: seconds by which a view began after the reference, 0.61 or b=0.61 (negative: before)."
        ),
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="Set by hand: time of one event in every view, --at a=12.30 --at b=4.10.")
    ] = None,
    timestamps: Annotated[
        str | None, typer.Option(help="Use the capture times of all frames, written by a recorder app: a.csv,b.csv.")
    ] = None,
    capture_fps: Annotated[
        list[str] | None,
        typer.Option(help="True frames per second of a slow-motion video: b=240 (default: read from the file)."),
    ] = None,
    distance: Annotated[
        list[str] | None,
        typer.Option(help="Meters from the source of the sound to each phone, which delay the sound: a=3,b=8."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(help="Number of the sound track of a file with several: b=2 (default: the first with sound)."),
    ] = None,
    jobs: Jobs = None,
    on: On = "",
    session: SessionFolder = DEFAULT_SESSION,
    config: Annotated[Path | None, config_file("sync")] = None,
    sets: Annotated[list[str] | None, set_option("sync")] = None,
    json: Json = False,
) -> None:
    """Find how the clocks of the videos relate: from their sound, from the athlete's motion, or by hand."""
    from twoview.storage.records import sync_to_json
    from twoview.storage.session import open_session
    from twoview.workflow.sheet import register
    from twoview.workflow.stages import adding, new_views
    from twoview.workflow.summary import MANY
    from twoview.workflow.synchronization import NotDetectedError, SyncOptions, sync_takes

    settings = resolve("sync", file=config, sets=sets or (), unread=unread_cluster(on))
    hands = workers(on, jobs, settings)
    by_hand = (offset, at, timestamps, capture_fps, distance)
    if sheet is not None and (videos or views or take or track or any(by_hand)):
        raise typer.BadParameter("--from takes videos, views, takes and what is known of them from the sheet")

    def options(store: Session, name: str) -> SyncOptions:
        held = list(store.take(name))
        if name in listed:
            return replace(listed[name].options, motion=motion, refine=refine)
        return SyncOptions(
            motion, refine, numbers(offset, "--offset", alone=[v for v in held if v != (reference or held[0])]),
            numbers(at, "--at"), tuple(Path(path) for path in names(timestamps) or ()),
            numbers(capture_fps, "--capture-fps"), numbers(distance, "--distance"),
            {view: round(number) for view, number in numbers(track, "--track").items()},
        )  # fmt: skip

    def relate(store: Session, takes: Sequence[str]) -> None:
        with console.progress() as on_progress:
            for name, found in sync_takes(
                store, takes, config=settings.sync, reference=reference, options=lambda take: options(store, take),
                workers=hands, on_progress=on_progress,
            ):  # fmt: skip
                if isinstance(found, TwoViewError) and len(takes) == 1:
                    raise found
                if isinstance(found, TwoViewError):
                    failed.append((name, found))
                else:
                    answers.append((store, name, *found))

    answers: list[tuple[Session, str, Sync, bool]] = []
    failed: list[tuple[str, TwoViewError]] = []
    listed: Mapping[str, SheetTake] = {}
    if sheet is not None:
        with console.progress() as on_progress:
            store, listed = register(session, sheet, on_progress=on_progress)
        relate(store, list(listed))
    elif videos:
        with adding(session, videos, views=names(views), take=take) as (store, take_name):
            try:
                relate(store, [take_name])
            except NotDetectedError:
                if motion:
                    store.keep_take(take_name)  # so that its views can be detected
                raise
    else:
        store = open_session(session)
        relate(store, _chosen(store, take, one=motion or refine or any(by_hand)))
    if json:
        rows = [{"take": name, **sync_to_json(result)} for _, name, result, _ in answers]
        shown = rows[0] if len(rows) == 1 and not failed else {"takes": rows}
        shown |= {"failed": console.failures(failed)} if failed else {}
        console.as_json({**shown, "next": "twoview detect"})
    new_ones = [answer for answer in answers if answer[3]]
    if sheet is not None and not json:
        console.result(f"{len(listed)} takes: {len(new_ones)} synchronized, {len(answers) - len(new_ones)} up to date")
        answers = new_ones if len(new_ones) <= MANY else []
    for store, name, result, fresh in () if json else answers:
        new = new_views(store, name)
        if new:
            console.warn(
                f"views {', '.join(new)} are in no other take; if these are the same phones, name them with --views"
            )
        console.show_sync(result, name)
        path = store.sync_path(name)
        files = [file for file in (path, path.with_suffix(".png")) if file.exists()]
        (console.saved if fresh else console.still_saved)(*files, next="twoview detect")
    if failed:
        console.show_failures(failed)
        raise typer.Exit(1)


def _chosen(store: Session, take: str | None, *, one: bool) -> list[str]:
    """The takes to relate where no videos are named: that one, or those without clocks, or all. one: must be one."""
    if take is not None:
        return [take]
    from twoview.workflow.stages import unrelated

    found = [name for name in store.takes if not store.sync_path(name).exists() or unrelated(store, name)]
    found = found or list(store.takes)
    if not found:
        raise SessionError("no videos are named, and the session has no take", hint="twoview sync a.mp4 b.mp4")
    if one and len(found) > 1:
        raise SessionError(
            f"these options are for one take, and {', '.join(found)} could be meant", hint=f"--take {quote(found[0])}"
        )
    return found
