"""The command that relates clocks: `twoview sync`, by sound, by motion, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twoview.cli import console
from twoview.cli.options import ConfigFile, Json, SessionFolder, Sets, TakeName, Views, names, numbers
from twoview.config import resolve
from twoview.storage.session import DEFAULT_FOLDER

DEFAULT_SESSION = Path(DEFAULT_FOLDER)


def sync(
    videos: Annotated[list[Path], typer.Argument(help="The same event filmed by two or more phones.")],
    views: Views = None,
    take: TakeName = None,
    reference: Annotated[
        str | None, typer.Option(help="View whose clock is the session's; default: the first.")
    ] = None,
    motion: Annotated[
        bool, typer.Option("--motion", help="By the athlete's motion instead of sound; after `detect`.")
    ] = False,
    refine: Annotated[
        bool, typer.Option("--refine", help="By sound, then set by motion: takes off the sound's way; after `detect`.")
    ] = False,
    offset: Annotated[
        list[str] | None, typer.Option(help="By hand: seconds the other view began later, or b=0.61 for each.")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(help="By hand, one event in every view: --at a=12.30 --at b=4.10.")
    ] = None,
    timestamps: Annotated[
        str | None, typer.Option(help="By a recorder app's capture times of every frame: a.csv,b.csv.")
    ] = None,
    capture_fps: Annotated[
        list[str] | None,
        typer.Option(help="Slow motion: frames a second in filming, b=240; default: what the file says."),
    ] = None,
    distance: Annotated[list[str] | None, typer.Option(help="Meters from the source of the sound: a=3,b=8.")] = None,
    session: SessionFolder = DEFAULT_SESSION,
    config: ConfigFile = None,
    sets: Sets = None,
    json: Json = False,
) -> None:
    """Find how the clocks of the files relate: from their sound, the athlete's motion, or by hand."""
    from twoview.storage import records
    from twoview.workflow import session as workflow_session
    from twoview.workflow import synchronization

    settings = resolve("sync", file=config, sets=sets or ()).sync
    store, take_name = workflow_session.add_videos(session, videos, views=names(views), take=take)
    held = list(store.take(take_name))
    given = synchronization.Given(
        motion, refine, numbers(offset, "--offset", alone=[v for v in held if v != (reference or held[0])]),
        numbers(at, "--at"), tuple(Path(path) for path in names(timestamps) or ()),
        numbers(capture_fps, "--capture-fps"), numbers(distance, "--distance"),
    )  # fmt: skip
    with console.progress() as on_progress:
        result, fresh = synchronization.sync_take(
            store, take_name, config=settings, reference=reference, given=given, on_progress=on_progress
        )
    if json:
        console.as_json({"take": take_name, **records.sync_to_json(result)})
        return
    new = workflow_session.new_views(store, take_name)
    if new:
        console.warn(
            f"views {', '.join(new)} are in no other take; if these are the same phones, name them with --views"
        )
    console.show_sync(result, take_name)
    path = store.sync_path(take_name)
    files = [file for file in (path, path.with_suffix(".png")) if file.exists()]
    (console.saved if fresh else console.still_saved)(*files, next="twoview detect")
